//! What an operator should look at first: one line for each thing that is wrong now, with whose it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{admin::AdminState, body::OpenExchange, fault::Phase, snapshot::Snapshot, upstream::Circuit};

/// A stream, or a response that has not begun, is silent after this time.
const SILENT: Duration = Duration::from_secs(30);

/// Limit of the notices.
const MOST: usize = 20;

/// Whose a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Gateway,
    Provider,
    Store,
}

impl Owner {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Provider => "provider",
            Self::Store => "redis",
        }
    }
}

/// The notices, at most [`MOST`], the gateway's own first.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<Value>);

impl Notices {
    /// What is wrong at `now`. `deaf` are the numbers of the workers that do not respond.
    pub(super) fn of(admin: &AdminState, deaf: &[usize], open: &[&OpenExchange], now: Instant) -> Value {
        let mut notices = Self::default();
        let snapshot = admin.gateway.live.load();
        notices.of_gateway(admin, deaf, snapshot.generation);
        notices.of_store(&snapshot);
        notices.of_upstreams(&snapshot, now);
        notices.of_silence(open, now);
        notices.0.truncate(MOST);
        Value::Array(notices.0)
    }

    fn of_gateway(&mut self, admin: &AdminState, deaf: &[usize], generation: u64) {
        if !admin.ready.get() {
            self.add(Owner::Gateway, "is draining: no new connections are accepted");
        }
        for worker in deaf {
            self.add(
                Owner::Gateway,
                &format!("worker {worker} does not respond; its requests are not listed"),
            );
        }
        let reload = admin.gateway.last_reload.load();
        let problems = reload.as_deref().map_or(0, |reload| reload.problems.len());
        if problems > 0 {
            let plural = if problems == 1 { "problem" } else { "problems" };
            self.add(
                Owner::Gateway,
                &format!(
                    "configuration refused ({problems} {plural}); generation {generation} stays in effect"
                ),
            );
        }
    }

    fn of_store(&mut self, snapshot: &Snapshot) {
        let Some(state) = snapshot.limits.sharing().map(|sharing| sharing.state()) else { return };
        if !state.is_available {
            let reason = state.trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
            self.add(Owner::Store, &format!("limits are not shared; each gateway admits its share{reason}"));
        }
    }

    fn of_upstreams(&mut self, snapshot: &Snapshot, now: Instant) {
        for upstream in snapshot.upstreams.values() {
            let name = &upstream.name;
            let all = upstream.count();
            let open =
                upstream.targets().filter(|target| target.state.circuit(now) != Circuit::Closed).count();
            if open > 0 {
                self.add(
                    Owner::Provider,
                    &format!("{name}: circuit breaker open at {open} of {all} targets"),
                );
            }
            let (keys, resting) = upstream.keys.cooling_down(now);
            if resting > 0 {
                self.add(Owner::Provider, &format!("{name}: {resting} of {keys} keys in cooldown"));
            }
            let waiting: usize = upstream.targets().map(|target| target.state.waiting()).sum();
            if waiting > 0 {
                self.add(Owner::Provider, &format!("{name}: {waiting} requests wait for max_pending"));
            }
        }
    }

    /// Counts silent requests by upstream.
    fn of_silence(&mut self, open: &[&OpenExchange], now: Instant) {
        let mut silent: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        for exchange in open {
            let Some(attempt) = exchange.attempts.last() else { continue };
            let streams = exchange.phase == Phase::Stream;
            let waits = streams || matches!(exchange.phase, Phase::FirstByte | Phase::Connect);
            let since = exchange.last_frame.unwrap_or(attempt.start);
            // A WebSocket connection may be silent between two turns.
            if waits && exchange.turns.is_none() && now.saturating_duration_since(since) >= SILENT {
                *silent.entry((&attempt.upstream, streams)).or_default() += 1;
            }
        }
        for ((upstream, streams), count) in silent {
            let what = match (streams, count) {
                (true, 1) => "1 response has been silent".to_owned(),
                (true, count) => format!("{count} responses have been silent"),
                (false, 1) => "1 request has had no response".to_owned(),
                (false, count) => format!("{count} requests have had no response"),
            };
            self.add(Owner::Provider, &format!("{upstream}: {what} for more than {} s", SILENT.as_secs()));
        }
    }

    fn add(&mut self, owner: Owner, text: &str) {
        self.0.push(json!({ "who": owner.as_str(), "text": text }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body::{About, OpenAttempt},
        telemetry::ids::RequestId,
    };

    fn open(phase: Phase, last_frame: Option<Instant>, start: Instant) -> OpenExchange {
        let attempt = OpenAttempt {
            upstream: "openai".into(),
            target: "https://a".into(),
            key: None,
            start,
            connect: None,
            head: None,
            end: None,
            status: None,
            result: None,
        };
        OpenExchange {
            about: About { request_id: RequestId::random(), start, caller: None, route: None },
            frames: 0,
            bytes: 0,
            turns: None,
            model: None,
            phase,
            events: 0,
            last_frame,
            first_token: None,
            attempts: vec![attempt],
            attempt_count: 1,
        }
    }

    #[test]
    fn silence_is_counted_by_upstream_and_belongs_to_the_provider() {
        let start = Instant::now();
        let now = start + SILENT;
        let recently = Some(now - Duration::from_secs(1));
        let mut tunnel = open(Phase::Stream, Some(start), start);
        tunnel.turns = Some(1);
        let all = [
            open(Phase::Stream, Some(start), start),
            open(Phase::Stream, Some(start), start),
            open(Phase::Stream, recently, start),
            open(Phase::FirstByte, None, start),
            open(Phase::FirstByte, None, now),
            open(Phase::Intake, None, start),
            tunnel,
        ];
        let mut notices = Notices::default();
        notices.of_silence(&all.iter().collect::<Vec<_>>(), now);
        let texts: Vec<&str> = notices.0.iter().filter_map(|notice| notice["text"].as_str()).collect();
        let expected = [
            "openai: 1 request has had no response for more than 30 s",
            "openai: 2 responses have been silent for more than 30 s",
        ];
        assert_eq!(texts, expected);
        assert!(notices.0.iter().all(|notice| notice["who"] == "provider"));
    }
}
