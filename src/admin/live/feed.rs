//! Sends viewers the state, and then what changes, twice a second at most.

use std::{pin::pin, rc::Rc, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    changes, patch,
    state::{Observation, StateMaker},
    viewers::{Message, Topic, Topics, Viewers},
};
use crate::{
    admin::AdminState,
    proxy::Reload,
    snapshot::Snapshot,
    telemetry::{
        history::{HistoryPart, NewestPart},
        metrics::worker::WorkerMetrics,
    },
};

/// The pause between two messages with changes.
const TICK: Duration = Duration::from_millis(500);

/// How long a viewer hears nothing at most, so that it knows that the connection works.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long requests that went well are kept after the last viewer has left.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// Finished requests that a new viewer gets, and that one message has.
const FINISHED_AT_FIRST: usize = 1000;
const FINISHED_AT_ONCE: usize = 250;
const FINISHED_PER_TICK: usize = 100;

/// Log lines that a viewer gets at first, and with each message.
const LOG_LINES: usize = 200;

/// Sends the state to viewers.
#[derive(Debug)]
pub(super) struct Feed {
    admin: Rc<AdminState>,
    maker: StateMaker,
    sent: Value,
    configuration: Value,
    /// What `configuration` was made of.
    sources: Option<Sources>,
    /// Where to read on in the history of each worker, and in the log.
    finished: Vec<u64>,
    log: u64,
    /// Until when requests that went well are kept; `None`: they are not.
    kept_until: Option<Instant>,
    heard: Instant,
}

/// What the configuration that viewers see is made of.
#[derive(Debug)]
struct Sources {
    snapshot: Arc<Snapshot>,
    replaced: Option<Arc<Value>>,
    reload: Option<Arc<Reload>>,
}

impl Sources {
    fn of(admin: &AdminState) -> Self {
        let gateway = &admin.gateway;
        Self {
            snapshot: gateway.live.load_full(),
            replaced: gateway.replaced_configuration.load_full(),
            reload: gateway.last_reload.load_full(),
        }
    }

    /// Whether `other` are the same, so that what is made of them need not be made again.
    fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot)
            && address(self.replaced.as_ref()) == address(other.replaced.as_ref())
            && address(self.reload.as_ref()) == address(other.reload.as_ref())
    }
}

impl Feed {
    pub(super) fn new(admin: Rc<AdminState>) -> Self {
        Self {
            admin,
            maker: StateMaker::new(),
            sent: Value::Null,
            configuration: Value::Null,
            sources: None,
            finished: Vec::new(),
            log: 0,
            kept_until: None,
            heard: Instant::now(),
        }
    }

    /// Serves viewers whenever there are any. Never returns.
    pub(super) async fn run(mut self) {
        self.bound_histories();
        loop {
            if self.viewer_comes().await {
                self.serve().await;
            } else {
                self.forget_finished();
            }
        }
    }

    /// Waits for a viewer. Returns false if there is none by the time until which requests that went well are kept.
    async fn viewer_comes(&self) -> bool {
        let comes = self.viewers().wait();
        match self.kept_until {
            Some(until) => timeout_at(until, comes).await.is_ok(),
            None => {
                comes.await;
                true
            }
        }
    }

    /// Serves the viewers until none is left.
    async fn serve(&mut self) {
        while self.viewers().count() > 0 {
            let next = pin!(sleep(TICK));
            self.tick().await;
            next.await;
        }
        self.keep_log(false);
        self.sent = Value::Null;
        // Nothing that is not in effect is held while nobody looks.
        self.sources = None;
    }

    /// Sends what has changed, and to new viewers all there is.
    async fn tick(&mut self) {
        self.viewers().keep_those_with(self.admin.gateway.live.load().admin_token.as_ref());
        let wanted = self.viewers().wanted();
        self.keep(wanted);
        let seen = Observation::make(&self.admin).await;
        let now = self.maker.millis(seen.at);
        let state = self.maker.make(&self.admin, &seen);
        let is_new = wanted.has(Topic::Configuration) && self.reads_configuration();
        self.send_changes(now, &state, wanted, is_new);
        self.sent = state;
        if self.viewers().has_new() {
            let messages = self.first_messages(now, wanted);
            self.viewers().inform(&messages);
        }
    }

    /// Has the workers keep what viewers want.
    fn keep(&mut self, wanted: Topics) {
        self.keep_log(wanted.has(Topic::Log));
        let now = Instant::now();
        if wanted.has(Topic::Finished) {
            self.keep_all(true);
            self.kept_until = Some(now + KEPT_FOR);
        } else if self.kept_until.is_some_and(|until| now >= until) {
            self.forget_finished();
        }
    }

    /// Requests that go well are not kept any more.
    fn forget_finished(&mut self) {
        self.keep_all(false);
        self.kept_until = None;
    }

    /// Makes the configuration that viewers see, unless nothing has changed. Returns whether it is a new one.
    fn reads_configuration(&mut self) -> bool {
        let sources = Sources::of(&self.admin);
        if self.sources.as_ref().is_some_and(|known| known.are(&sources)) {
            return false;
        }
        self.configuration = configuration(&sources);
        self.sources = Some(sources);
        true
    }

    fn send_changes(&mut self, now: i64, state: &Value, wanted: Topics, has_new_configuration: bool) {
        let mut messages = Vec::new();
        if let Some(change) = patch::between(&self.sent, state) {
            messages.push(message("delta", &json!({ "now": now, "patch": change })));
        }
        if has_new_configuration {
            messages.push(message("configuration", &self.configuration));
        }
        if wanted.has(Topic::Finished) {
            let finished = self.newly_finished();
            messages.extend((!finished.is_empty()).then(|| lines(&finished)));
        }
        if wanted.has(Topic::Log) {
            let log = self.new_log_lines();
            messages.extend((!log.lines.is_empty()).then(|| texts(&log)));
        }
        if messages.is_empty() && self.heard.elapsed() >= HEARTBEAT {
            messages.push(message("delta", &json!({ "now": now, "patch": {} })));
        }
        if !messages.is_empty() {
            self.heard = Instant::now();
        }
        messages.iter().for_each(|message| self.viewers().send(message));
    }

    /// All of the wanted topics, for new viewers: at most eight messages.
    fn first_messages(&self, now: i64, wanted: Topics) -> Vec<Message> {
        let mut messages = vec![message("state", &json!({ "now": now, "state": self.sent }))];
        if wanted.has(Topic::Configuration) {
            messages.push(message("configuration", &self.configuration));
        }
        if wanted.has(Topic::Finished) {
            let parts = self.read_finished(&[], FINISHED_AT_FIRST);
            let newest = NewestPart::share(&parts, FINISHED_AT_FIRST);
            messages.extend(newest.chunks(FINISHED_AT_ONCE).map(lines));
        }
        if wanted.has(Topic::Log) {
            messages.push(texts(&self.admin.gateway.access_log.queue.tail().read(0, LOG_LINES)));
        }
        messages
    }

    fn newly_finished(&mut self) -> Vec<Arc<[u8]>> {
        let parts = self.read_finished(&self.finished, FINISHED_PER_TICK);
        self.finished = parts.iter().map(|part| part.next).collect();
        NewestPart::share(&parts, FINISHED_PER_TICK)
    }

    /// What the history of each worker has from these numbers on.
    fn read_finished(&self, from: &[u64], most: usize) -> Vec<NewestPart> {
        let workers = self.admin.gateway.all_metrics();
        let read = |(index, worker): (usize, &Arc<WorkerMetrics>)| {
            worker.history.newest(from.get(index).copied().unwrap_or(0), most)
        };
        workers.iter().enumerate().map(read).collect()
    }

    fn new_log_lines(&mut self) -> HistoryPart {
        let read = self.admin.gateway.access_log.queue.tail().read(self.log, LOG_LINES);
        self.log = read.next;
        read
    }

    /// All workers together keep as many finished requests as a viewer gets.
    fn bound_histories(&self) {
        let workers = self.admin.gateway.all_metrics();
        let each = FINISHED_AT_FIRST.div_ceil(workers.len().max(1));
        workers.iter().for_each(|worker| worker.history.bound(each));
    }

    fn keep_all(&self, keep: bool) {
        self.admin.gateway.all_metrics().iter().for_each(|worker| worker.history.keep_all(keep));
    }

    fn keep_log(&self, keep: bool) {
        self.admin.gateway.access_log.queue.tail().keep_all(keep);
    }

    fn viewers(&self) -> &Viewers {
        &self.admin.live.viewers
    }
}

/// The configuration in effect, what the last change has changed, and what is wrong with what was read last.
fn configuration(Sources { snapshot, replaced, reload }: &Sources) -> Value {
    let changes = replaced.as_deref().map(|before| changes::between(before, &snapshot.redacted));
    let problems = reload.as_deref().map(|reload| reload.problems.as_slice()).unwrap_or_default();
    json!({
        "generation": snapshot.generation,
        "problems": problems,
        "warnings": snapshot.warnings,
        "awaits_restart": snapshot.awaits_restart,
        "changes": changes.unwrap_or_default(),
        "config": snapshot.redacted,
    })
}

fn address<T>(known: Option<&Arc<T>>) -> Option<*const T> {
    known.map(Arc::as_ptr)
}

fn message(event: &str, data: &Value) -> Message {
    let topic = match event {
        "configuration" => Topic::Configuration,
        "log" => Topic::Log,
        _ => Topic::State,
    };
    Message { topic, bytes: format!("event: {event}\ndata: {data}\n\n").into() }
}

/// A message with finished requests, which are JSON objects.
fn lines(lines: &[Arc<[u8]>]) -> Message {
    let mut data = b"event: finished\ndata: [".to_vec();
    data.extend(lines.join(&b','));
    data.extend(b"]\n\n");
    Message { topic: Topic::Finished, bytes: data.into() }
}

/// A message with log lines of any form.
fn texts(part: &HistoryPart) -> Message {
    let texts: Vec<_> = part.lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
    message("log", &json!(texts))
}
