//! The scripts count as the counters of one process do: the same operations on both, with a real server.

#[path = "../../../../tests/it/harness/redis.rs"]
#[expect(dead_code, reason = "the tests of the whole program use all of it")]
mod redis;

mod admissions;
mod alone;
mod cost;
mod leases;
mod process;
mod switches;
mod values;
mod versions;
mod waits;

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use self::redis::{RedisClient, RedisServer, Reply};
use super::{
    alone::CountedBy,
    copy::Copying,
    lease::Subjects,
    ledger::{self, Entry, Ledger, PlannedChange, corrections},
    plan::{Decision, Plan, PlanContext},
    sharing::Used,
    subject::Subject,
    wire::{AdmissionReply, Asker, ChangeKind, ChangesReply, ScriptVerdict, VERSION, seconds},
};
use crate::{
    limit::{
        Admitted, Allowance, Applied, Calendar, CalendarUnit, Counter, Demand, Limit, Moment, Now, Rate,
        TokenCount, Unit, Weights, admission::Granted, counter::Taken,
    },
    money::Money,
    store::ScriptCall,
};

/// Seconds since 1970 at which each sequence begins: shortly before the end of a day.
const BEGINNING: i64 = 1_795_996_790;

/// A gateway that counts in a server whose clock is the test's.
pub(super) struct StoreGateway {
    client: RedisClient,
    pub(super) asker: Asker,
    pub(super) ledger: Ledger,
    pub(super) subjects: Subjects,
    /// The version of its scripts and values, if it is another one than this program's.
    pub(super) version: u8,
}

impl StoreGateway {
    pub(super) fn new(server: &RedisServer, node: u64) -> Self {
        Self {
            client: server.client(),
            asker: Asker { node, session: 1 },
            ledger: Ledger::default(),
            subjects: Subjects::default(),
            version: VERSION,
        }
    }

    /// Runs a call at a time of the test's, in milliseconds after the beginning.
    fn run(&mut self, call: &ScriptCall, millis: i64) -> Vec<u8> {
        // The server's own clock passes too, and faster or slower: nothing may expire by it.
        let clock = "{ ARGV[#ARGV - 1], ARGV[#ARGV] }";
        let version = format!("SPARE = {},", self.version);
        let script = call
            .script
            .body()
            .replace("redis.call('TIME')", clock)
            .replace("2 ^ 48, 1\n", "2 ^ 48, 60000\n")
            .replace("SPARE = 2,", &version);
        let keys = call.keys.len().to_string();
        let (seconds, micros) = (BEGINNING + millis / 1_000, millis % 1_000 * 1_000);
        let (seconds, micros) = (seconds.to_string(), micros.to_string());
        let mut arguments: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), keys.as_bytes()];
        arguments.extend(call.keys.iter().map(|key| key.as_bytes()));
        arguments.extend(call.arguments.iter().map(Vec::as_slice));
        arguments.extend([seconds.as_bytes(), micros.as_bytes()]);
        match self.client.command(&arguments) {
            Reply::Bytes(Some(mut bytes)) => {
                assert_eq!(bytes[0], self.version);
                // Such a gateway reads it.
                bytes[0] = VERSION;
                bytes
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn admit(&mut self, limits: &[Applied], demand: Demand, millis: i64) -> Decision {
        let plan = self.plan(limits, demand, millis);
        self.ask(&plan, millis)
    }

    /// An admission that has not been asked for yet.
    pub(super) fn plan(&self, limits: &[Applied], demand: Demand, millis: i64) -> Plan {
        let wall = moment(millis).wall;
        let context = PlanContext { wall, servers: 0, subjects: &self.subjects };
        let mut plan = Plan::new(limits, demand, context).unwrap();
        plan.number();
        plan
    }

    /// Runs an admission as often as this is called.
    pub(super) fn ask(&mut self, plan: &Plan, millis: i64) -> Decision {
        let calls = plan.calls(self.asker).into_iter().enumerate();
        let replies: Vec<AdmissionReply> =
            calls.map(|(part, call)| plan.read(part, &self.run(&call, millis)).unwrap()).collect();
        for (part, reply) in replies.iter().enumerate() {
            let copying = Copying {
                sent: moment(millis).monotonic,
                read: moment(millis).monotonic,
                now: reply.now,
                servers: 0,
                is_restored: true,
            };
            plan.copy(part, reply, copying);
        }
        let decision = plan.decide(&replies);
        match &decision {
            Decision::Admitted { granted, .. } => granted.iter().for_each(|granted| self.hold(granted)),
            _ => replies.iter().enumerate().for_each(|(part, reply)| {
                let undone = plan.undo(part, reply);
                undone.iter().filter(|entry| entry.unit == Unit::Concurrent).for_each(|entry| {
                    entry.lease().unwrap().give_back();
                });
                self.ledger.add(undone);
            }),
        }
        decision
    }

    fn hold(&self, granted: &Granted) {
        if granted.applied.limit.concurrent.is_some() {
            granted.applied.counter.shared.get().unwrap().lease(&self.subjects).hold();
        }
    }

    /// Settles what was granted; `None`: nothing was used.
    pub(super) fn settle(&mut self, granted: &[Granted], used: Option<Demand>, millis: i64) {
        for Granted { applied, taken } in granted {
            let used = used.map_or([0; 3], |used| {
                [taken[0].units(), applied.limit.weights.weigh(used.tokens), used.cost.nanos()]
            });
            let used = Used { applied, taken: *taken, used, by: CountedBy::Store };
            let mut entries = corrections(&used, moment(millis).wall);
            if applied.limit.concurrent.is_some() {
                applied.counter.shared.get().unwrap().lease(&self.subjects).end(9, moment(millis).monotonic);
                let counter = applied.counter.clone();
                entries.push(Entry { counter, unit: Unit::Concurrent, amount: 1.0, end: None });
            }
            self.ledger.add(entries);
        }
        self.flush(millis);
    }

    /// Notes that an admission's reply was lost.
    pub(super) fn cancel(&mut self, plan: &Plan) {
        for part in 0..plan.parts() {
            let cancelled = plan.cancel(part).unwrap();
            cancelled.is_unknown();
            self.ledger.cancel(cancelled);
        }
    }

    /// Makes one change, and returns the state of its count.
    pub(super) fn change(&mut self, applied: &Applied, unit: Unit, what: ChangeKind, millis: i64) -> f64 {
        let change = PlannedChange::new(&applied.counter, unit, what);
        let call = ledger::call(self.asker, 0, "t:marker", change.into_iter());
        ChangesReply::read(&self.run(&call, millis)).unwrap().states[0].0
    }

    /// The same by the server's own clock.
    pub(super) fn change_now(&mut self, applied: &Applied, unit: Unit, what: ChangeKind) -> f64 {
        let change = PlannedChange::new(&applied.counter, unit, what);
        let call = ledger::call(self.asker, 0, "t:marker", change.into_iter());
        let keys = call.keys.len().to_string();
        let mut arguments: Vec<&[u8]> = vec![b"EVAL", call.script.body().as_bytes(), keys.as_bytes()];
        arguments.extend(call.keys.iter().map(|key| key.as_bytes()));
        arguments.extend(call.arguments.iter().map(Vec::as_slice));
        let Reply::Bytes(Some(bytes)) = self.client.command(&arguments) else { panic!() };
        ChangesReply::read(&bytes).unwrap().states[0].0
    }

    /// Sends each batch twice: the second time changes nothing.
    pub(super) fn flush(&mut self, millis: i64) {
        for batch in self.ledger.batches(None) {
            let call = batch.call(self.asker, "t");
            let first = ChangesReply::read(&self.run(&call, millis)).unwrap();
            let again = ChangesReply::read(&self.run(&call, millis)).unwrap();
            // A clock that has caught up is not kept.
            let states = |reply: &ChangesReply| -> Vec<f64> {
                reply
                    .states
                    .iter()
                    .zip(&batch.entries)
                    .map(|((value, _), entry)| {
                        if entry.end.is_none() && entry.unit != Unit::Concurrent {
                            value.max(reply.now)
                        } else {
                            *value
                        }
                    })
                    .collect()
            };
            assert_eq!(states(&first), states(&again));
            self.ledger.confirmed(&batch);
            let copying = Copying {
                sent: moment(millis).monotonic,
                read: moment(millis).monotonic,
                now: first.now,
                servers: 0,
                is_restored: false,
            };
            for (entry, state) in batch.entries.iter().zip(&first.states) {
                let period = (entry.end.map(|(_, period)| period), entry.end.map(|(end, _)| end));
                super::copy::copy(&entry.counter, entry.unit, *state, period, copying);
            }
        }
    }
}

/// A time so many milliseconds after the beginning.
pub(super) fn moment(millis: i64) -> Moment {
    let wall = Timestamp::from_millisecond(BEGINNING * 1_000 + millis).unwrap();
    Moment { monotonic: Now::from_nanos(millis * 1_000_000), wall }
}

pub(super) fn limit(name: &str) -> Limit {
    Limit {
        name: name.into(),
        requests: None,
        tokens: None,
        cost: None,
        concurrent: None,
        weights: Weights::default(),
        enforce: true,
        goes_on: false,
        queue: None,
    }
}

pub(super) fn rate(quantity: u64, seconds: u64, burst: u64) -> Option<Allowance> {
    Some(Allowance::Rate(Rate::new(quantity, Duration::from_secs(seconds), burst)))
}

pub(super) fn a_day(quantity: u64) -> Option<Allowance> {
    let calendar = Calendar::new(CalendarUnit::Day, TimeZone::get("Europe/Berlin").unwrap());
    Some(Allowance::Period { calendar, quantity })
}

/// A limit with the counts of one gateway.
pub(super) fn applied(limit: Limit, subject: &Subject) -> Applied {
    let limit = Arc::new(limit);
    let counter = Arc::new(Counter::new(&limit));
    counter.share(&limit, || subject.clone());
    Applied { limit, counter }
}

pub(super) fn demand(tokens: u64, cost: u64) -> Demand {
    Demand { tokens: TokenCount { input: tokens, ..TokenCount::default() }, cost: Money::from_nanos(cost) }
}

/// One step of a sequence.
#[derive(Debug, Clone)]
enum Step {
    Admit(u64, u64),
    Settle(prop::sample::Index, u64, u64),
    GiveBack(prop::sample::Index),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        5 => (0..400_u64, 0..50_u64).prop_map(|(tokens, cost)| Step::Admit(tokens, cost)),
        3 => (index(), 0..900_u64, 0..90_u64).prop_map(|(which, tokens, cost)| Step::Settle(which, tokens, cost)),
        1 => index().prop_map(Step::GiveBack),
        3 => (1..4_000_i64).prop_map(Step::Pass),
    ]
}

/// The limits of a request: of the client, its group, and the gateway.
fn limits(enforce: bool) -> Vec<Applied> {
    let client = Subject::client("t", Some("a"), Some("g"));
    let group = Subject::group("t", Some("a"), Some("g"));
    let all = Subject::gateway("t");
    vec![
        applied(Limit { requests: rate(60, 60, 4), concurrent: Some(3), ..limit("requests") }, &client),
        applied(Limit { tokens: rate(6_000, 60, 1_000), ..limit("tokens") }, &client),
        applied(Limit { enforce, requests: rate(30, 60, 2), tokens: a_day(900), ..limit("shadow") }, &client),
        applied(Limit { requests: a_day(25), cost: a_day(600), ..limit("day") }, &group),
        applied(Limit { tokens: rate(120_000, 60, 20_000), concurrent: Some(5), ..limit("all") }, &all),
    ]
}

#[test]
fn the_store_counts_as_one_process_does() {
    let server = RedisServer::start(&[]);
    let cases = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(cases, |(steps in prop::collection::vec(step(), 1..60), enforce in any::<bool>())| {
        server.command(&["FLUSHALL"]);
        let mut store = StoreGateway::new(&server, 7);
        let (local, shared) = (limits(enforce), limits(enforce));
        let mut open: Vec<(Admitted, Vec<Granted>)> = Vec::new();
        let mut millis = 0;
        for step in &steps {
            match step {
                Step::Pass(more) => millis += more,
                Step::Admit(tokens, cost) => {
                    let demand = demand(*tokens, *cost);
                    let expected = Admitted::take(&local, demand, moment(millis));
                    match (expected, store.admit(&shared, demand, millis)) {
                        (Ok(expected), Decision::Admitted { granted, would_refuse }) => {
                            let names = |limit: Option<(Arc<Limit>, Unit)>| limit.map(|(limit, unit)| (limit.name.clone(), unit));
                            prop_assert_eq!(names(expected.would_refuse().cloned()), names(would_refuse));
                            open.push((expected, granted));
                        }
                        (Err(expected), Decision::Refused(refused)) => {
                            prop_assert_eq!((&expected.limit.name, expected.unit), (&refused.limit.name, refused.unit));
                            let nanos = |wait: Option<Duration>| wait.map_or(-1, |wait| i64::try_from(wait.as_nanos()).unwrap());
                            prop_assert!((nanos(expected.wait) - nanos(refused.wait)).abs() <= 1_000, "{expected:?} {refused:?}");
                            store.flush(millis);
                        }
                        (expected, decision) => prop_assert!(false, "{expected:?}\n{decision:?}"),
                    }
                }
                Step::Settle(which, tokens, cost) if !open.is_empty() => {
                    let (admitted, granted) = open.remove(which.index(open.len()));
                    admitted.settle(demand(*tokens, *cost), moment(millis));
                    store.settle(&granted, Some(demand(*tokens, *cost)), millis);
                }
                Step::GiveBack(which) if !open.is_empty() => {
                    let (admitted, granted) = open.remove(which.index(open.len()));
                    drop(admitted);
                    store.settle(&granted, None, millis);
                }
                Step::Settle(..) | Step::GiveBack(_) => {}
            }
        }
        // What is left is the same.
        let probe = store.admit(&shared, Demand::default(), millis);
        let expected = Admitted::take(&local, Demand::default(), moment(millis));
        prop_assert_eq!(expected.is_ok(), matches!(probe, Decision::Admitted { .. }));
    });
}
