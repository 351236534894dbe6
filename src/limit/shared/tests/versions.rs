//! Gateways whose scripts have another version, as while a deployment is updated.

use super::*;

/// A gateway with scripts of the version after this one, which cannot read what these write, as these cannot read theirs.
fn another_version(server: &RedisServer) -> StoreGateway {
    StoreGateway { version: VERSION + 1, ..StoreGateway::new(server, 2) }
}

#[test]
fn gateways_of_two_versions_refuse_nothing_that_each_would_admit_alone() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let of = || {
        let limit = Limit { requests: a_day(10), tokens: rate(6_000, 60, 400), ..limit("all") };
        vec![applied(limit, &subject)]
    };
    let mut gateways = [(StoreGateway::new(&server, 1), of(), 0), (another_version(&server), of(), 0)];
    for round in 0..12 {
        for (gateway, limits, admitted) in &mut gateways {
            match gateway.admit(limits, demand(200, 0), round) {
                Decision::Admitted { granted, .. } => {
                    *admitted += 1;
                    gateway.settle(&granted, Some(demand(200, 0)), round);
                }
                Decision::Refused(refused) => assert_eq!((refused.unit, *admitted), (Unit::Requests, 10)),
                Decision::Unusable => panic!("round {round}"),
            }
        }
    }
    // A day is counted by each version: what it has seen is restored into the value that the other one has written.
    assert_eq!(gateways.map(|(_, _, admitted)| admitted), [10, 10]);
}

#[test]
fn requests_in_flight_of_each_version_are_at_most_the_limit() {
    let server = RedisServer::start(&[]);
    let subject = Subject::client("t", Some("a"), None);
    let of = || vec![applied(Limit { concurrent: Some(3), ..limit("at-once") }, &subject)];
    let mut gateways = [(StoreGateway::new(&server, 1), of(), 0), (another_version(&server), of(), 0)];
    for round in 0..6 {
        for (gateway, limits, admitted) in &mut gateways {
            match gateway.admit(limits, Demand::default(), round) {
                Decision::Admitted { .. } => *admitted += 1,
                Decision::Refused(_) => assert_eq!(*admitted, 3),
                Decision::Unusable => panic!("round {round}"),
            }
        }
    }
    assert_eq!(gateways.map(|(_, _, admitted)| admitted), [3, 3]);
}
