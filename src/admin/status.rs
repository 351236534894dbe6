//! `/status`: the current state of the gateway.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::AdminState;
use crate::{
    accounts::MapSize,
    body::OpenExchange,
    config::{ClientFilesReport, EXPIRES_SOON, FileProblem},
    listen::WorkerView,
    proxy::Reload,
    snapshot::{Snapshot, Target, Upstream},
};

/// Open exchanges listed per worker. The counts cover all, and `exchanges_not_listed` says how many are missing from the list.
const LISTED: usize = 1000;

/// Clients listed whose keys have expired or expire soon.
const LISTED_CLIENTS: usize = 100;

/// A worker that has not responded within this time is reported as unresponsive.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What a worker reports.
struct Report {
    exchanges: usize,
    connections: usize,
    open: Vec<OpenExchange>,
}

impl AdminState {
    /// The whole state, as JSON.
    pub(super) async fn status(&self) -> Response<Full<Bytes>> {
        let reports = self.workers.ask(TIMEOUT, Report::of).await;
        let loads = self.workers.loads();
        let snapshot = self.gateway.live.load_full();
        let reload = self.gateway.last_reload.load_full();
        let workers: Vec<Value> = reports
            .iter()
            .zip(&loads)
            .enumerate()
            .map(|(number, (report, load))| worker(number, report, *load))
            .collect();
        let mut open: Vec<&OpenExchange> = reports.iter().flatten().flat_map(|report| &report.open).collect();
        open.sort_by_key(|exchange| exchange.about.start);
        let counted = reports.iter().zip(&loads).map(|(report, load)| exchanges_of(report, *load));
        let not_listed = counted.sum::<usize>().saturating_sub(open.len());
        let now = Instant::now();
        let shown = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.ready.get(),
            "generation": snapshot.generation,
            "last_reload": reload.as_deref().map(last_reload),
            "awaits_restart": snapshot.awaits_restart,
            "listeners": self.listeners(&snapshot),
            "workers": workers,
            "upstreams": snapshot.upstreams.values().map(upstream).collect::<Vec<_>>(),
            "exchanges": open.into_iter().map(|open| exchange(open, now)).collect::<Vec<_>>(),
            "exchanges_not_listed": not_listed,
            "websockets": self.gateway.open_tunnels(),
            "redis": redis(&snapshot),
            "clients": clients(&snapshot),
            "client_files": self.gateway.client_files.load().as_deref().map(client_files),
            "limits": super::limits::for_status(&snapshot),
            "account_ids": account_ids(self.gateway.accounts.size()),
        });
        super::json(&shown)
    }

    /// The open sockets.
    fn listeners(&self, snapshot: &Snapshot) -> Vec<Value> {
        let tls = |asked| snapshot.listeners.iter().any(|one| one.address == asked && one.tls.is_some());
        self.listeners.iter().map(|(asked, bound)| json!({ "address": bound, "tls": tls(*asked) })).collect()
    }
}

impl Report {
    fn of(view: &WorkerView) -> Self {
        let (exchanges, connections) = view.load();
        Self { exchanges, connections, open: view.open_exchanges(LISTED) }
    }
}

/// The loads of a worker that does not respond are read without it.
fn worker(number: usize, report: &Option<Report>, load: (usize, usize)) -> Value {
    let connections = report.as_ref().map_or(load.1, |report| report.connections);
    json!({
        "worker": number,
        "answers": report.is_some(),
        "exchanges": exchanges_of(report, load),
        "connections": connections,
    })
}

fn exchanges_of(report: &Option<Report>, load: (usize, usize)) -> usize {
    report.as_ref().map_or(load.0, |report| report.exchanges)
}

/// How limits are shared; null: they are not.
fn redis(snapshot: &Snapshot) -> Option<Value> {
    let state = snapshot.limits.sharing()?.state();
    Some(json!({
        "available": state.is_available,
        "reason": state.trouble,
        "gateways": state.nodes,
        "fallback_share": state.fallback_share,
        "fallbacks": state.fallbacks,
        "remembered_refusals": state.remembered,
        "pending_corrections": state.pending,
        "unreadable_values": state.unreadable,
    }))
}

/// How many clients there are, and whose keys have expired or expire soon.
fn clients(snapshot: &Snapshot) -> Value {
    let expiries = snapshot.callers.expiries(EXPIRES_SOON, LISTED_CLIENTS);
    let client = |(expires, name): &(SystemTime, Arc<str>)| json!({ "name": **name, "expires": humantime::format_rfc3339_seconds(*expires).to_string() });
    json!({
        "count": snapshot.callers.count(),
        "expired": expiries.expired,
        "expiring": expiries.soon,
        "first": expiries.first.iter().map(client).collect::<Vec<_>>(),
    })
}

fn client_files(report: &ClientFilesReport) -> Value {
    let problem = |known: &FileProblem| json!({ "file": known.file, "problem": known.problem });
    json!({
        "directory": report.directory.display().to_string(),
        "files": report.files,
        "broken": report.broken,
        "problems": report.listed.iter().map(problem).collect::<Vec<_>>(),
        "doubtful": report.doubtful,
        "warnings": report.warnings.iter().map(problem).collect::<Vec<_>>(),
        "unreadable": report.unreadable,
        "reads": report.reads,
    })
}

/// Which account knows an id, where that is not the rule's.
fn account_ids(size: MapSize) -> Value {
    json!({ "count": size.entries, "limit": size.bound, "outlive_restart": size.is_kept })
}

fn last_reload(reload: &Reload) -> Value {
    json!({
        "at": humantime::format_rfc3339_millis(reload.at).to_string(),
        "seconds_ago": SystemTime::now().duration_since(reload.at).unwrap_or_default().as_secs(),
        "ok": reload.problems.is_empty(),
        "problems": reload.problems,
    })
}

fn upstream(upstream: &Arc<Upstream>) -> Value {
    let now = Instant::now();
    let target = |target: &Target| {
        let state = &target.state;
        json!({
            "url": *target.url,
            "weight": target.weight,
            "pending": state.pending(),
            "queue": super::queue::shown(&state.queue_view()),
            "circuit": state.circuit(now).as_str(),
            "opened": state.opened(),
        })
    };
    let targets: Vec<Value> = upstream.targets().map(target).collect();
    let (keys, cooling_down) = upstream.keys.cooling_down(now);
    let mut accounts: Vec<&str> = upstream.accounts().map(|account| &**account.name()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    json!({ "name": *upstream.name, "accounts": accounts, "targets": targets, "keys": keys, "keys_resting": cooling_down })
}

fn exchange(open: &OpenExchange, now: Instant) -> Value {
    let about = &open.about;
    json!({
        "request_id": about.request_id.as_str(),
        "age_ms": millis(now.saturating_duration_since(about.start)),
        "caller": about.caller.as_deref(),
        "route": about.route.as_deref(),
        "model": open.model.as_deref(),
        "upstream": open.attempts.last().map(|attempt| &*attempt.upstream),
        "phase": open.phase.as_str(),
        "attempts": open.attempt_count,
        "first_token_ms": open.first_token.map(|at| millis(at.saturating_duration_since(about.start))),
        "silent_ms": open.last_frame.map(|at| millis(now.saturating_duration_since(at))),
        "events": open.events,
        "frames": open.frames,
        "bytes": open.bytes,
        "turns": open.turns,
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
