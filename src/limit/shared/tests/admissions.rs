//! Calls that are run twice, or whose replies are lost; and values that cannot be read.

use super::{process::client, *};

/// A limit of each kind, of a client and of its group.
fn of_each_kind(index: usize) -> Vec<Applied> {
    let name = format!("client-{index}");
    let client = Subject::client("t", Some(&name), Some("g"));
    let group = Subject::group("t", Some(&name), Some("g"));
    vec![
        applied(Limit { tokens: rate(6_000, 60, 1_000), concurrent: Some(9), ..limit("fast") }, &client),
        applied(Limit { requests: a_day(10), tokens: a_day(1_000), ..limit("day") }, &group),
    ]
}

/// What is used: tokens of the clock, requests of the day, tokens of the day.
fn used(limits: &[Applied], millis: i64) -> [u64; 3] {
    let now = moment(millis);
    let [fast, day] = [&limits[0], &limits[1]].map(|applied| applied.counter.remaining(&applied.limit, now));
    [fast.tokens.unwrap().used, day.requests.unwrap().used, day.tokens.unwrap().used]
}

fn is_admitted(decision: &Decision) -> bool {
    matches!(decision, Decision::Admitted { .. })
}

/// The requests of a gateway in flight, as the server counts them.
fn in_flight(gateway: &mut StoreGateway, limits: &[Applied], millis: i64) -> f64 {
    gateway.change(&limits[0], Unit::Concurrent, ChangeKind::Ended { count: 0.0 }, millis)
}

#[test]
fn a_call_that_is_run_again_takes_nothing_more() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let limits = of_each_kind(0);
    let plan = gateway.plan(&limits, demand(100, 0), 0);
    // Other admissions come between, as when a cluster's client sends it again after an error.
    let others: Vec<Plan> = (0..40).map(|_| gateway.plan(&limits, demand(1, 0), 0)).collect();
    assert!(is_admitted(&gateway.ask(&plan, 0)));
    others.iter().take(5).for_each(|other| assert!(is_admitted(&gateway.ask(other, 0))));
    let before = used(&limits, 0);
    assert_eq!(before, [105, 6, 105]);
    for again in [&plan, &others[0], &others[4], &plan] {
        assert!(is_admitted(&gateway.ask(again, 0)), "the first run has admitted it");
    }
    assert_eq!(used(&limits, 0), before);
    assert_eq!(in_flight(&mut gateway, &limits, 0), 6.0);
    // The others have not been run yet, though later ones may have been.
    assert!(is_admitted(&gateway.ask(&others[39], 0)));
    assert!(is_admitted(&gateway.ask(&others[20], 0)));
    assert_eq!(used(&limits, 0), [107, 8, 107]);
}

#[test]
fn a_call_that_comes_after_many_later_ones_is_admitted() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let limits = vec![applied(Limit { requests: a_day(200), ..limit("day") }, &client(0))];
    let plans: Vec<Plan> = (0..100).map(|_| gateway.plan(&limits, Demand::default(), 0)).collect();
    // As when its thread was stopped between numbering and sending.
    for plan in plans.iter().skip(1).chain(&plans[..1]) {
        assert!(is_admitted(&gateway.ask(plan, 0)));
    }
    assert_eq!(limits[0].counter.remaining(&limits[0].limit, moment(0)).requests.unwrap().used, 100);
}

#[test]
fn an_admission_without_a_reply_has_no_effect_whenever_it_is_run() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let limits = of_each_kind(0);
    let known = gateway.plan(&limits, demand(10, 0), 0);
    let [early, late] = [0, 1].map(|_| gateway.plan(&limits, demand(100, 0), 0));
    assert!(is_admitted(&gateway.ask(&known, 0)));
    assert!(is_admitted(&gateway.ask(&early, 0)));
    assert_eq!(used(&limits, 0), [110, 2, 110]);
    // The connection breaks, and with it both replies. The second call is still to come.
    gateway.asker.session = 2;
    gateway.cancel(&early);
    gateway.cancel(&late);
    gateway.flush(0);
    gateway.asker.session = 1;
    assert!(matches!(gateway.ask(&late, 0), Decision::Unusable));
    gateway.asker.session = 2;
    assert_eq!(in_flight(&mut gateway, &limits, 0), 1.0);
    assert!(is_admitted(&gateway.admit(&limits, demand(1, 0), 0)));
    assert_eq!(used(&limits, 0), [11, 2, 11]);
}

#[test]
fn what_took_the_rest_of_a_day_is_not_given_back_in_excess() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let limits = of_each_kind(0);
    let first = gateway.plan(&limits, demand(990, 0), 0);
    let rest = gateway.plan(&limits, demand(100, 0), 10_000);
    assert!(is_admitted(&gateway.ask(&first, 0)));
    // Ten were left of what it asked for.
    assert!(is_admitted(&gateway.ask(&rest, 10_000)));
    gateway.asker.session = 2;
    gateway.cancel(&rest);
    gateway.flush(10_000);
    assert!(used(&limits, 10_000)[2] >= 990, "{:?}", used(&limits, 10_000));
}

#[test]
fn a_value_that_cannot_be_read_counts_as_absent_and_concerns_nobody_else() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let (broken, whole) = (of_each_kind(0), of_each_kind(1));
    let key = broken[0].counter.shared.get().unwrap().subject().key.to_string();
    let values: [&[&str]; 4] = [
        &["SET", &key, "x"],
        &["SET", &key, "\u{2}\u{1}\u{1}\u{1}\u{1}abcdefgh"],
        &["SET", &key, "\u{7f} a later version"],
        &["LPUSH", &key, "a", "list"],
    ];
    for (round, value) in values.into_iter().enumerate() {
        let other = used(&whole, 0)[0];
        server.command(&["DEL", &key]);
        server.command(value);
        let plan = gateway.plan(&broken, demand(7, 0), 0);
        let reply = gateway.run(&plan.calls(gateway.asker)[0], 0);
        let reply = plan.read(0, &reply).unwrap();
        assert_eq!((reply.verdict, reply.unreadable), (ScriptVerdict::Admitted, 1), "{value:?}");
        // A correction of both: that of the other one is made, and once.
        server.command(&["DEL", &key]);
        server.command(value);
        let entry = |applied: &Applied| Entry {
            counter: applied.counter.clone(),
            unit: Unit::Tokens,
            amount: 1_000_000.0,
            end: None,
        };
        gateway.ledger.add(vec![entry(&broken[0]), entry(&whole[0])]);
        gateway.flush(0);
        assert_eq!((used(&broken, 0)[0], used(&whole, 0)[0]), (100, other + 100), "round {round}");
    }
}

#[test]
fn a_value_of_the_version_before_is_read() {
    let server = RedisServer::start(&[]);
    let (mut gateway, mut other) = (StoreGateway::new(&server, 1), StoreGateway::new(&server, 2));
    let limits = vec![applied(
        Limit { requests: a_day(10), tokens: rate(6_000, 60, 1_000), concurrent: Some(2), ..limit("all") },
        &Subject::client("t", Some("a"), None),
    )];
    let replica = limits[0].counter.shared.get().unwrap();
    let now = seconds(BEGINNING) * 1_000_000.0;
    let end = Calendar::new(CalendarUnit::Day, TimeZone::get("Europe/Berlin").unwrap());
    let end = seconds(end.period(moment(0).wall).end().as_second());
    let mut value = vec![1, 1, 1, 1];
    value.extend(replica.tag(Unit::Tokens).to_le_bytes());
    value.extend((now + 2_000_000.0).to_le_bytes());
    value.extend((now - 5.0).to_le_bytes());
    value.extend(replica.tag(Unit::Requests).to_le_bytes());
    value.extend((end as u32).to_le_bytes());
    value.extend(1.0_f64.to_le_bytes());
    value.extend(3.0_f64.to_le_bytes());
    value.extend(replica.tag(Unit::Concurrent).to_le_bytes());
    value.extend([2, 0, 0, 0, 0, 0, 1, 0, 0]);
    value.extend((((now + 9_000_000.0) / 100_000.0) as u32).to_le_bytes());
    value.extend(1_u32.to_le_bytes());
    server.client().command(&[b"SET", replica.subject().key.as_bytes(), &value]);
    assert!(is_admitted(&gateway.admit(&limits, demand(10, 0), 0)));
    let left = limits[0].counter.remaining(&limits[0].limit, moment(0));
    assert_eq!((left.tokens.unwrap().used, left.requests.unwrap().used), (210, 5));
    // The other gateway's request still counts: there is no room for a third one.
    assert!(!is_admitted(&gateway.admit(&limits, demand(10, 0), 0)));
    assert!(!is_admitted(&other.admit(&limits, demand(10, 0), 0)));
}

#[test]
fn numbers_of_refused_requests_are_gaps() {
    let server = RedisServer::start(&[]);
    for gap in 0..60 {
        server.command(&["FLUSHALL"]);
        let mut gateway = StoreGateway::new(&server, 1);
        let limits = vec![applied(Limit { requests: a_day(200), ..limit("day") }, &client(0))];
        let used = || limits[0].counter.remaining(&limits[0].limit, moment(0)).requests.unwrap().used;
        for _ in 0..48 {
            assert!(is_admitted(&gateway.admit(&limits, demand(1, 0), 0)));
        }
        (0..gap).for_each(|_| drop(gateway.plan(&limits, demand(1, 0), 0)));
        let plan = gateway.plan(&limits, demand(1, 0), 0);
        assert!(is_admitted(&gateway.ask(&plan, 0)));
        assert!(is_admitted(&gateway.ask(&plan, 0)));
        assert_eq!(used(), 49, "after a gap of {gap}");
        gateway.cancel(&plan);
        gateway.flush(0);
        assert!(is_admitted(&gateway.admit(&limits, demand(1, 0), 0)));
        assert_eq!(used(), 49, "after a gap of {gap}");
    }
}

/// A call that is run again when 48 others of the same gateway and subject have been executed since counts twice: too much, and never too little.
#[test]
fn a_call_that_is_run_again_after_more_than_are_remembered_admits_nothing_more() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let limits = vec![applied(Limit { requests: a_day(100), ..limit("day") }, &client(0))];
    let used = || limits[0].counter.remaining(&limits[0].limit, moment(0)).requests.unwrap().used;
    let plans: Vec<Plan> = (0..60).map(|_| gateway.plan(&limits, demand(1, 0), 0)).collect();
    for plan in &plans {
        assert!(is_admitted(&gateway.ask(plan, 0)));
    }
    // As when the connection to a server of a cluster breaks with all replies on their way.
    for plan in &plans {
        assert!(is_admitted(&gateway.ask(plan, 0)));
    }
    assert_eq!(used(), 60 + (60 - 48));
    // The sixty of them are all that were admitted, and of the hundred no more than the rest is.
    let more = (0..100).filter(|_| is_admitted(&gateway.admit(&limits, demand(1, 0), 0))).count();
    assert_eq!(more, 100 - 72);
}

#[test]
fn numbers_begin_again_after_the_last_one() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    gateway.subjects = Subjects::after(u32::MAX - 3);
    let limits = of_each_kind(0);
    let plans: Vec<Plan> = (0..8).map(|_| gateway.plan(&limits, demand(1, 0), 0)).collect();
    for plan in plans.iter().chain(&plans) {
        assert!(is_admitted(&gateway.ask(plan, 0)));
    }
    assert_eq!(used(&limits, 0)[1], 8);
    // What is told with the last number is believed, though it is a smaller one than the first.
    let told = ChangeKind::InFlight { fewest: 1.0, most: 2.0, number: 4 };
    assert_eq!(gateway.change(&limits[0], Unit::Concurrent, told, 0), 2.0);
}

#[test]
fn each_subject_knows_what_it_was_short_of() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    // The numbers of the client and of its group differ; the group is short.
    let own = vec![of_each_kind(0).remove(0)];
    gateway.admit(&own, demand(1, 0), 0);
    let limits = of_each_kind(0);
    assert!(is_admitted(&gateway.admit(&limits, demand(990, 0), 0)));
    let rest = gateway.plan(&limits, demand(100, 0), 20_000);
    assert!(is_admitted(&gateway.ask(&rest, 20_000)));
    gateway.asker.session = 2;
    gateway.cancel(&rest);
    gateway.flush(20_000);
    assert!(used(&limits, 20_000)[2] >= 990, "{:?}", used(&limits, 20_000));
}

#[test]
fn a_call_has_as_many_changes_as_a_script_can_take_and_the_last_admissions_first() {
    let server = RedisServer::start(&[]);
    let gateway = StoreGateway::new(&server, 1);
    // Eighty limits: more than a thousand changes in thirteen admissions.
    let limits: Vec<Applied> = (0..80)
        .map(|index| applied(Limit { requests: a_day(200), ..limit(&format!("{index}")) }, &client(0)))
        .collect();
    for number in 1..=40 {
        let counter = limits[0].counter.clone();
        let entry = |applied: &Applied| Entry {
            counter: applied.counter.clone(),
            unit: Unit::Requests,
            amount: -1.0,
            end: None,
        };
        let entries = limits.iter().map(entry).collect();
        gateway.ledger.cancel(ledger::Cancelled(vec![ledger::CancelledOf { counter, number, entries }]));
    }
    let mut sent = 0;
    let mut last = 41;
    while gateway.ledger.pending() > 0 {
        let [batch] = gateway.ledger.batches(None).try_into().unwrap();
        let call = batch.call(gateway.asker, "t");
        let items = u16::from_le_bytes(call.arguments[0][17..19].try_into().unwrap());
        assert!(items <= 1_000, "{items}");
        let first = f64::from_le_bytes(call.arguments[0][26..34].try_into().unwrap());
        assert!(first < f64::from(last), "{first} after {last}");
        last = first as u32;
        sent += usize::from(items);
        gateway.ledger.confirmed(&batch);
    }
    assert_eq!(sent, 40 * 81);
}
