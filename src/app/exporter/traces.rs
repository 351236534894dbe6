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
        Self { sender, queue, pace: Pace::default(), health }
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
                () = sleep(EVERY) => Next::GoOn,
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
                Receipt::Later(_) if delivery.first_try.elapsed() > GIVE_UP => return Next::GoOn,
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
