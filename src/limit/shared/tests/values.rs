//! What the scripts do beyond what one process does: leases, losses, several gateways.

use super::*;

#[test]
fn a_lease_ends_when_its_gateway_is_silent_and_others_count_on() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let of = || vec![applied(Limit { concurrent: Some(2), ..limit("at-once") }, &subject)];
    let (mut one, mut other) = (StoreGateway::new(&server, 1), StoreGateway::new(&server, 2));
    let (mine, others) = (of(), of());
    let is_admitted = |decision: &Decision| matches!(decision, Decision::Admitted { .. });
    assert!(is_admitted(&one.admit(&mine, Demand::default(), 0)));
    assert!(is_admitted(&other.admit(&others, Demand::default(), 1_000)));
    assert!(!is_admitted(&other.admit(&others, Demand::default(), 2_000)));
    // The first gateway is silent: its lease of fifteen seconds ends.
    assert!(!is_admitted(&other.admit(&others, Demand::default(), 14_999)));
    assert!(is_admitted(&other.admit(&others, Demand::default(), 15_001)));
    // It comes back with its request, which counts again; nobody is admitted before one has ended.
    assert!(!is_admitted(&one.admit(&mine, Demand::default(), 16_000)));
}

#[test]
fn what_a_period_has_lost_is_restored_from_what_gateways_have_seen() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let of = || vec![applied(Limit { requests: a_day(10), ..limit("day") }, &subject)];
    let (mut one, mut other) = (StoreGateway::new(&server, 1), StoreGateway::new(&server, 2));
    let (mine, others) = (of(), of());
    for _ in 0..3 {
        one.admit(&mine, Demand::default(), 0);
        other.admit(&others, Demand::default(), 0);
    }
    server.command(&["FLUSHALL"]);
    // The one that has seen less comes first.
    let left = |applied: &[Applied]| {
        applied[0].counter.remaining(&applied[0].limit, moment(0)).requests.unwrap().remaining
    };
    one.admit(&mine, Demand::default(), 1);
    assert_eq!(left(&mine), 10 - 5 - 1);
    other.admit(&others, Demand::default(), 2);
    assert_eq!(left(&others), 10 - 6 - 2);
    // Nothing is restored twice.
    one.admit(&mine, Demand::default(), 3);
    assert_eq!(left(&mine), 1);
}

#[test]
fn a_call_of_an_earlier_connection_changes_no_lease() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let limits = vec![applied(Limit { concurrent: Some(9), ..limit("at-once") }, &subject)];
    let mut gateway = StoreGateway::new(&server, 1);
    gateway.asker.session = 2;
    assert!(matches!(gateway.admit(&limits, Demand::default(), 0), Decision::Admitted { .. }));
    gateway.asker.session = 1;
    assert!(matches!(gateway.admit(&limits, Demand::default(), 0), Decision::Unusable));
}

#[test]
fn a_client_of_five_limits_is_small() {
    let server = RedisServer::start(&[]);
    let names = ["a", "b", "c", "d", "e"];
    let mut gateway = StoreGateway::new(&server, 1);
    let mut most = 0;
    for client in 0..20 {
        let subject = Subject::client("sluicegate", Some(&format!("client-{client:06}")), Some("research"));
        let limits: Vec<Applied> = names
            .iter()
            .map(|name| applied(Limit { requests: rate(600, 60, 60), ..limit(name) }, &subject))
            .collect();
        gateway.admit(&limits, Demand::default(), i64::from(client));
        let usage = server.command(&["MEMORY", "USAGE", &subject.key]).number();
        most = most.max(usage);
    }
    assert!(most <= 250, "{most} bytes");
}

#[test]
fn a_correction_that_comes_after_a_loss_does_not_hide_it() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let limits = vec![applied(Limit { requests: a_day(10), ..limit("day") }, &subject)];
    let mut gateway = StoreGateway::new(&server, 1);
    let mut granted = Vec::new();
    for _ in 0..5 {
        let Decision::Admitted { granted: some, .. } = gateway.admit(&limits, Demand::default(), 0) else {
            panic!()
        };
        granted = some;
    }
    server.command(&["FLUSHALL"]);
    gateway.settle(&granted, None, 1);
    gateway.admit(&limits, Demand::default(), 2);
    let left = limits[0].counter.remaining(&limits[0].limit, moment(2)).requests.unwrap().remaining;
    assert_eq!(left, 10 - 5 + 1 - 1);
}

#[test]
fn a_value_lives_as_long_as_it_is_needed_and_its_time_is_seldom_changed() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let limits = vec![applied(Limit { requests: rate(600, 60, 60), ..limit("requests") }, &subject)];
    let mut gateway = StoreGateway::new(&server, 1);
    let mut expiries = Vec::new();
    for second in (0..300).step_by(10) {
        assert!(matches!(
            gateway.admit(&limits, Demand::default(), second * 1_000),
            Decision::Admitted { .. }
        ));
        let Reply::Bytes(Some(value)) = server.command(&["GET", &subject.key]) else { panic!() };
        let expiry = u32::from_le_bytes(value[5..9].try_into().unwrap());
        // The gateway's record is needed for a minute.
        let needed = (seconds(BEGINNING + second + 60) * 10.0) as u32;
        assert!((needed..=needed + 601).contains(&expiry), "{second}: {expiry} {needed}");
        // The server goes by the same time, and by a minute more because its clock is another one here.
        let left = server.command(&["PTTL", &subject.key]).number();
        assert!((60_000..=181_000).contains(&left), "{second}: {left}");
        expiries.push(expiry);
    }
    expiries.dedup();
    assert!(expiries.len() <= 6, "{expiries:?}");
}
