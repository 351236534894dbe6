//! A gateway that runs in this process.

use std::{
    ffi::OsString, fmt::Display, net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle, time::Duration,
};

use serde_json::Value;
use sluicegate::{
    app::{App, Ended, Surroundings},
    config::{Config, Env, KeyHash, LogFormat, parse},
    limit::Unit,
    listen::Workers,
    proxy,
    simulator::Simulator,
    snapshot::UnitView,
    telemetry::{metrics::request_counts::Counts, queue::Queue},
};
use tokio::sync::mpsc;

use super::{CLIENT_KEY, GatewayToml, Http, LogLines, UPSTREAM_KEY, safely};

/// The name of a limit that must have counted exactly what the log says, when a gateway is finished.
pub const COUNTED: &str = "counted";

/// That limit: of each kind, and so large that no test reaches it.
pub const COUNTED_TABLE: &str = "[limit.counted]
each = \"gateway\"
requests = 1_000_000
tokens = 1_000_000_000
concurrent = 1_000
per = \"month\"
";

/// A running gateway; dropped, it is stopped at once.
pub struct Gateway {
    pub addresses: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub log: LogLines,
    inside: Arc<proxy::Gateway>,
    workers: Workers,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<Ended>>,
}

impl Gateway {
    /// A gateway for this gateway.toml, mostly a [`GatewayToml`]; `$CLIENT_HASH` in it becomes the hash of [`CLIENT_KEY`], and `UPSTREAM_KEY`
    /// is in its environment.
    pub fn start(toml: &(impl Display + ?Sized)) -> Self {
        let config = read(&toml.to_string());
        let log = LogLines::default();
        let out = log.clone();
        let (stop, mut stopped) = mpsc::channel(2);
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let queue = Queue::start(Box::new(out), 64 << 20, LogFormat::Json);
            let app = App::start_with(config, queue, Surroundings::default()).unwrap();
            report
                .send((
                    app.addresses().to_vec(),
                    app.admin_address(),
                    app.gateway().clone(),
                    app.workers().clone(),
                ))
                .unwrap();
            app.run_until(async move || {
                if stopped.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            })
            .unwrap()
        });
        let Ok((addresses, admin, inside, workers)) = started.recv() else {
            std::panic::resume_unwind(thread.join().unwrap_err());
        };
        Self { addresses, admin, log, inside, workers, stop, thread: Some(thread) }
    }

    /// The usual one: plain HTTP/1.1 and h2c on one listener, two workers, one route `/v1` to `upstream`, one client; `more` is
    /// added to the end of the file.
    pub fn before(upstream: &Simulator, leg: Http, more: &str) -> Self {
        Self::with(upstream, leg, Keys { more, ..Keys::default() })
    }

    /// The same with keys added to its tables.
    pub fn with(upstream: &Simulator, leg: Http, keys: Keys<'_>) -> Self {
        Self::to(&upstream.url(), leg, keys)
    }

    /// The same before any upstream. It asks once: what a failure looks like is seen best where nothing makes up for it.
    pub fn to(url: &str, leg: Http, keys: Keys<'_>) -> Self {
        let Keys { listener, server, upstream, route, client, more, .. } = keys;
        let threads = if keys.one_worker { 1 } else { 2 };
        let http2 = leg == Http::Two;
        let once = "retry = \"off\"\nbreaker = \"off\"";
        Self::start(
            &GatewayToml::before(url, format!("http2 = {http2}\n{once}\n{upstream}"))
                .listener("h2c = true")
                .listener(listener)
                .server(format!("threads = {threads}"))
                .server(server)
                .route(route)
                .client(client)
                .more(more),
        )
    }

    /// Has new exchanges go by this gateway.toml.
    pub async fn reload(&self, toml: &(impl Display + ?Sized)) {
        let (config, inside) = (read(&toml.to_string()), self.inside.clone());
        tokio::task::spawn_blocking(move || inside.replace(config).unwrap()).await.unwrap();
    }

    /// Its first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// What lives as long as it does.
    pub fn inside(&self) -> &Arc<proxy::Gateway> {
        &self.inside
    }

    /// Bytes of request bodies that it holds.
    pub fn buffered(&self) -> u64 {
        self.inside.buffered()
    }

    /// Waits until it holds no bytes of bodies. A client may have the last byte of a response before the gateway's thread has returned from
    /// writing it.
    pub async fn holds_nothing(&self) {
        self.buffers(|bytes| bytes == 0).await;
    }

    /// Waits until the number of bytes of bodies that it holds is as wanted.
    pub async fn buffers(&self, wanted: impl Fn(u64) -> bool) {
        safely(async {
            while !wanted(self.buffered()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.inside.all_metrics().iter().for_each(|stripe| stripe.add_to(&mut counts));
        counts
    }

    /// Its workers, for queries.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Open exchanges and connections of each worker.
    pub fn loads(&self) -> Vec<(usize, usize)> {
        self.workers.loads()
    }

    /// Asks it to stop: first to drain, when asked again to cut.
    pub fn ask_to_stop(&self) {
        self.stop.try_send(()).unwrap();
    }

    /// Stops it in order and waits for that.
    pub async fn stop(mut self) -> Ended {
        let _ = self.stop.try_send(());
        self.ended().await
    }

    /// Waits for its end, after it was asked to stop.
    pub async fn ended(&mut self) -> Ended {
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
    }

    /// Waits until so many exchanges have ended.
    pub async fn finished(&self, exchanges: usize) {
        safely(self.log.wait_for(|lines| (lines.len() >= exchanges).then_some(()))).await;
    }

    /// Stops it in order: nothing may be under way, nothing held, and each of `exchanges` must have had its line.
    pub async fn finish(mut self, exchanges: usize) {
        self.ask_to_stop();
        assert_eq!(self.ended().await, Ended::Drained);
        assert_eq!(self.buffered(), 0);
        let lines = self.log.access();
        assert_eq!(lines.len(), exchanges, "one line for each exchange");
        self.has_charged_what_was_used(&lines);
    }

    /// Checks limits after the end: nothing is in flight, and the limit [`COUNTED`] has counted what the log says.
    fn has_charged_what_was_used(&self, lines: &[Value]) {
        let snapshot = self.inside.live.load_full();
        let now = sluicegate::exchange::now();
        for view in snapshot.limits.views() {
            let is_counted = &*view.limit().name == COUNTED;
            for subject in view.subjects() {
                for UnitView { unit, left } in subject.units(now) {
                    let expected = match unit {
                        Unit::Concurrent => 0,
                        Unit::Requests if is_counted => {
                            lines.iter().filter(|line| is_charged(line)).count() as u64
                        }
                        Unit::Tokens if is_counted => lines.iter().map(tokens).sum(),
                        _ => continue,
                    };
                    assert_eq!(left.used, expected, "{unit:?} of {}: {lines:#?}", view.limit().name);
                }
                assert_eq!(subject.queue().map_or(0, |queue| queue.depth()), 0);
            }
        }
    }
}

/// Whether an upstream has accepted the request of this access line.
fn is_charged(line: &Value) -> bool {
    let last = line["attempts"].as_array().and_then(|attempts| attempts.last());
    let status = last.map_or(&line["status"], |attempt| &attempt["status"]).as_u64();
    // A client that has left before the response got no status.
    line["first_byte_ms"].is_number() && status.is_none_or(|status| status < 500 && status != 429)
}

/// The tokens that are charged for the request of this access line.
fn tokens(line: &Value) -> u64 {
    if !is_charged(line) {
        return 0;
    }
    ["tokens_in", "tokens_out"].iter().filter_map(|name| line[name].as_u64()).sum()
}

fn read(toml: &str) -> Config {
    let toml = toml.replace("$CLIENT_HASH", &KeyHash::of(CLIENT_KEY.as_bytes()).to_string());
    let variable = |name: &str| match name {
        "UPSTREAM_KEY" => Some(OsString::from(UPSTREAM_KEY)),
        // One that no simulator insists on.
        "UPSTREAM_KEY_2" => Some(OsString::from("sk-upstream-key-number-two-0123456789abcdef")),
        _ => None,
    };
    parse(&toml, &Env::new(Path::new("."), &variable)).unwrap_or_else(|p| panic!("{p:#?}"))
}

/// Lines for the tables of the usual gateway.toml.
#[derive(Default, Clone, Copy)]
pub struct Keys<'a> {
    pub listener: &'a str,
    pub server: &'a str,
    pub upstream: &'a str,
    pub route: &'a str,
    pub client: &'a str,
    pub more: &'a str,
    /// One worker, so that each exchange finds the upstream connections of the last; otherwise two.
    pub one_worker: bool,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.stop.try_send(());
        let _ = self.stop.try_send(());
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
