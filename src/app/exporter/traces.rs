//! Takes spans out of the queue in batches and has them sent, again and again where that may help.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};

use super::{
    Unsent,
    health::Health,
    send::{Payload, Sender, Sent},
    stop,
};
use crate::telemetry::trace::{Batch, Pace, Receipt, SpanQueue};

/// Spans wait so long at most before they are sent (the specification's default for batches).
const EVERY: Duration = Duration::from_secs(5);

/// A batch is sent again until so much time has passed since its first try.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The export of traces to one collector.
pub(super) struct TraceExport {
    sender: Sender,
    queue: Arc<SpanQueue>,
    pace: Pace,
    every: Duration,
    give_up: Duration,
    health: Health,
}

/// A batch that is being sent.
struct Delivery {
    payload: Payload,
    unsent: Unsent,
    first_try: Instant,
}

/// Whether the exporter goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl TraceExport {
    pub(super) fn new(sender: Sender, queue: Arc<SpanQueue>) -> Self {
        let url = sender.collector().traces.as_ref().map(|endpoint| endpoint.url.to_string());
        let health = Health::new("traces", url.unwrap_or_default());
        Self { sender, queue, pace: Pace::default(), every: EVERY, give_up: GIVE_UP, health }
    }

    /// Exports until `stopped`; then sends what waits, once, and ends.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        if self.sender.collector().traces.is_none() {
            return;
        }
        let mut next = Next::GoOn;
        while next == Next::GoOn {
            next = tokio::select! {
                () = self.queue.enough() => Next::GoOn,
                () = sleep(self.every) => Next::GoOn,
                () = stop(&mut stopped) => Next::Stop,
            };
            while next == Next::GoOn {
                // Until then spans stay in the queue, which is bounded.
                next = self.until_due(&mut stopped).await;
                let batch = if next == Next::GoOn { self.queue.take() } else { None };
                let Some(batch) = batch else { break };
                let delivery = self.delivery(&batch);
                next = self.deliver(delivery, &mut stopped).await;
                // What is left is less than a batch, and waits for more.
                if !self.queue.has_enough() {
                    break;
                }
            }
        }
        self.flush().await;
    }

    fn delivery(&self, batch: &Batch) -> Delivery {
        let payload = self.sender.payload(&batch.bytes);
        Delivery { payload, unsent: Unsent::new(&self.queue, batch.spans), first_try: Instant::now() }
    }

    /// Sends a batch until it is taken, refused, or too old. When the exporter is stopped meanwhile, the batch is sent once more.
    async fn deliver(&mut self, delivery: Delivery, stopped: &mut watch::Receiver<bool>) -> Next {
        loop {
            let sent = self.send(&delivery.payload).await;
            match self.judge(&sent) {
                Receipt::Taken { rejected } => {
                    delivery.unsent.taken(rejected);
                    return Next::GoOn;
                }
                Receipt::Refused => return Next::GoOn,
                // Its age is looked at before the wait: after one that the collector has named, it is always sent again.
                Receipt::Later(_) if delivery.first_try.elapsed() > self.give_up => return Next::GoOn,
                Receipt::Later(_) => {}
            }
            if self.until_due(stopped).await == Next::Stop {
                self.try_once(delivery).await;
                return Next::Stop;
            }
        }
    }

    /// Waits until a request may be sent.
    async fn until_due(&self, stopped: &mut watch::Receiver<bool>) -> Next {
        let wait = self.pace.wait(Instant::now());
        if wait.is_zero() {
            return Next::GoOn;
        }
        tokio::select! {
            () = sleep(wait) => Next::GoOn,
            () = stop(stopped) => Next::Stop,
        }
    }

    /// Sends everything that waits, once. After a failure the rest is dropped: the collector will not come back in the time that is left.
    async fn flush(&mut self) {
        let batches: Vec<Batch> = std::iter::from_fn(|| self.queue.take()).collect();
        let mut unsent: Vec<Unsent> =
            batches.iter().rev().map(|batch| Unsent::new(&self.queue, batch.spans)).collect();
        for batch in &batches {
            let payload = self.sender.payload(&batch.bytes);
            let Some(unsent) = unsent.pop() else { return };
            let delivery = Delivery { payload, unsent, first_try: Instant::now() };
            if !self.try_once(delivery).await {
                return;
            }
        }
    }

    /// Sends a batch once and returns whether it was taken.
    async fn try_once(&mut self, delivery: Delivery) -> bool {
        let sent = self.send(&delivery.payload).await;
        let Receipt::Taken { rejected } = self.judge(&sent) else { return false };
        delivery.unsent.taken(rejected);
        true
    }

    async fn send(&self, payload: &Payload) -> Sent {
        match &self.sender.collector().traces {
            Some(endpoint) => self.sender.send(endpoint, payload).await,
            None => Sent { receipt: Receipt::Refused, why: String::new() },
        }
    }

    fn judge(&mut self, sent: &Sent) -> Receipt {
        match sent.receipt {
            Receipt::Taken { .. } => self.pace.taken(),
            Receipt::Later(named) => self.pace.failed(named, Instant::now()),
            Receipt::Refused => {}
        }
        self.health.judge(sent);
        sent.receipt
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, rc::Rc};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        config::{Env, parse},
        snapshot::Snapshot,
        upstream::Pools,
    };

    const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    fn exporting(collector: std::net::SocketAddr) -> Snapshot {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.one]\nurl = \"http://127.0.0.1:1\"\nauth = \"none\"\n\
             [route.any]\npath = \"/v1\"\nupstreams = [\"one\"]\naccess = \"open\"\n[otlp]\nendpoint = \"http://{collector}\""
        );
        let config = parse(&text, &Env::new(Path::new("."), &|_: &str| None));
        Snapshot::compile(config.unwrap_or_else(|problems| panic!("{problems:#?}")), None).unwrap()
    }

    const LATER: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    /// Gives the next request this response, and returns when it came.
    async fn respond(collector: &TcpListener, response: &str) -> Instant {
        let (mut io, _) = collector.accept().await.unwrap();
        let came = Instant::now();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
        io.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
        io.write_all(response.as_bytes()).await.unwrap();
        came
    }

    #[tokio::test]
    async fn the_next_batch_waits_as_long_as_the_collector_has_asked_for_although_one_was_given_up() {
        let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let snapshot = exporting(collector.local_addr().unwrap());
        let sender = Sender::new(snapshot.collector.clone().unwrap(), Rc::new(Pools::new(Arc::default())));
        let queue = snapshot.spans.clone();
        let (stop, stopped) = watch::channel(false);
        let mut exporter = TraceExport::new(sender, queue.clone());
        (exporter.every, exporter.give_up) = (Duration::from_millis(10), Duration::ZERO);
        let story = async {
            assert!(queue.push(b"first", 1));
            let given_up = respond(&collector, LATER).await;
            assert!(queue.push(b"second", 1));
            let next = respond(&collector, TAKEN).await;
            assert!(next - given_up >= Duration::from_secs(1), "{:?}", next - given_up);
            stop.send_replace(true);
        };
        tokio::join!(exporter.run(stopped), story);
        let [_, _, (_, failed), _] = queue.counts().drops();
        assert_eq!((queue.counts().exported.value(), failed), (1, 1));
    }
}
