//! Keys that are limited, refused or without credit: who is kept away from them, and how long requests wait.

use sluicegate::simulator::Script;

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, keys_in_cooldown, refusal, stream};
use crate::{
    folder::Folder,
    harness::{CHAT, Http, UPSTREAM_KEY, chat, log, safely},
};

/// Waits that no test survives: whoever sleeps, sleeps in vain.
const ENDLESS: &str = r#"retry = { retries = 3, backoff = "10m", max_backoff = "2h", max_wait = "2h" }"#;

fn whole() -> Script {
    stream(&[ROLE, HELLO, DONE])
}

fn no_credit() -> Script {
    refusal(402, "insufficient_quota", &[])
}

/// A gateway before one upstream with two keys.
async fn with_two_keys(defaults: &str, folder: &Folder) -> Rig {
    // The same key twice, as far as the upstream can tell.
    let second = folder.write("second.key", UPSTREAM_KEY);
    let keys = format!("keys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = {second:?} }}]");
    let two = format!("{defaults}\n[upstream.two]\nurl = \"$MAIN\"\n{keys}");
    Rig::new(&two, "", "upstreams = [\"two\"]").await
}

#[tokio::test]
async fn a_key_without_credit_is_left_out_while_another_upstream_serves() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([no_credit()]);
    for _ in 0..3 {
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    }
    assert_eq!(rig.seen(), (1, 3));
    assert_eq!(keys_in_cooldown(&rig, "main"), 1);
    rig.finish(3).await;
}

#[tokio::test]
async fn the_last_key_stays_in_use() {
    let rig = Rig::alone(QUICK, "", "").await;
    for _ in 0..3 {
        rig.main_answers([no_credit()]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
        assert_eq!(answer.headers["x-should-retry"], "false");
    }
    assert_eq!((rig.seen().0, keys_in_cooldown(&rig, "main")), (3, 0));
    for _ in 0..2 {
        rig.main_answers([whole()]);
        assert_eq!(rig.chat().await.status, 200);
    }
    rig.finish(5).await;
}

/// Two keys of one account: the second one is the last that is left.
#[tokio::test]
async fn of_two_keys_without_credit_one_stays_in_use() {
    let folder = Folder::new();
    let rig = with_two_keys(QUICK, &folder).await;
    rig.main_answers((0..3).map(|_| no_credit()));
    assert_eq!(rig.chat().await.status, 503);
    assert_eq!(rig.seen().0, 2);
    assert_eq!(rig.chat().await.status, 503);
    assert_eq!((rig.seen().0, keys_in_cooldown(&rig, "two")), (3, 1));
    rig.main_answers([whole()]);
    assert_eq!(rig.chat().await.status, 200, "it works as soon as there is credit");
    rig.finish(3).await;
}

/// A route with nothing else uses the key whatever another route has noted.
#[tokio::test]
async fn a_cooldown_of_another_route_takes_the_last_key_from_nobody() {
    let route = "upstreams = [\"main\", \"spare\"]\n[route.alone]\npath = \"/alone\"\nrewrite = \"/v1\"\nupstreams = [\"main\"]";
    for refused in [no_credit(), refusal(429, "rate_limit_exceeded", &[("retry-after", "3600")])] {
        let rig = Rig::new(QUICK, "", route).await;
        rig.main_answers([refused]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
        rig.main_answers([whole()]);
        let answer = rig.post("/alone/chat/completions", CHAT, &[]).await;
        assert_eq!(answer.text(), [ROLE, HELLO, DONE].concat());
        rig.finish(2).await;
    }
}

/// Four requests at once, each of which gets a 429 whatever it does. All make as many attempts as they may, and get the upstream's error.
#[tokio::test]
async fn parallel_requests_that_are_all_limited_are_all_sent() {
    let folder = Folder::new();
    let retry = r#"retry = { retries = 3, backoff = "40ms", max_backoff = "30s", max_wait = "30s" }"#;
    let limited = || refusal(429, "rate_limit_exceeded", &[("retry-after-ms", "100")]);
    for keys in [1, 2] {
        let rig = match keys {
            1 => Rig::alone(retry, "", "").await,
            _ => with_two_keys(retry, &folder).await,
        };
        rig.main_answers((0..20).map(|_| limited()));
        let address = rig.gateway.address();
        let asking: Vec<_> = (0..4).map(|_| tokio::spawn(chat(address, Http::One))).collect();
        for answer in asking {
            let answer = answer.await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "rate_limit_exceeded"));
        }
        rig.gateway.log.line(4).await;
        for line in rig.gateway.log.access() {
            assert_eq!(log::attempts(&line), 4, "{line:#}");
        }
        assert_eq!(rig.seen().0, 16);
        rig.finish(4).await;
    }
}

/// Both keys are limited; six requests wait. Once each key has shown that its limit lasts, nobody waits any longer.
#[tokio::test]
async fn who_waits_for_a_key_is_told_at_once_that_the_wait_is_vain() {
    let folder = Folder::new();
    let waits = r#"retry = { retries = 3, backoff = "1s", max_backoff = "5m", max_wait = "5m" }"#;
    let rig = with_two_keys(waits, &folder).await;
    let limited = |wait| refusal(429, "rate_limit_exceeded", &[("retry-after", wait)]);
    rig.main_answers([limited("3"), limited("3")]);
    rig.main_answers((0..8).map(|_| limited("3600")));
    let address = rig.gateway.address();
    let first = tokio::spawn(chat(address, Http::One));
    while keys_in_cooldown(&rig, "two") < 2 {
        safely(tokio::task::yield_now()).await;
    }
    let others = (0..5).map(|_| tokio::spawn(chat(address, Http::One)));
    let mut codes = Vec::new();
    for answer in std::iter::once(first).chain(others.collect::<Vec<_>>()) {
        let answer = safely(answer).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()), (429, "59"));
        codes.push(answer.code());
    }
    // The gateway's own code: it was not sent.
    assert!(codes.iter().any(|code| code == "upstream_rate_limited"), "not each has to find out: {codes:?}");
    rig.finish(6).await;
}

#[tokio::test]
async fn nobody_waits_where_no_attempt_could_begin_in_time() {
    for (defaults, route) in [
        // Longer than all waits together may take (7 s).
        (r#"retry = { backoff = "10m", max_backoff = "20m" }"#, ""),
        // Longer than the request may take.
        (ENDLESS, r#"timeout = { total = "1m" }"#),
    ] {
        let rig = Rig::alone(defaults, "", route).await;
        rig.main_answers([refusal(503, "server_is_overloaded", &[])]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "server_is_overloaded"));
        assert_eq!(rig.seen().0, 1);
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn the_same_candidate_is_tried_once_more_if_that_is_set() {
    let same = QUICK.replace(" }", r#", same_candidate = { attempts = 1, within = "1s" } }"#);
    let limited = |wait| refusal(429, "rate_limit_exceeded", &[("retry-after", wait)]);
    for (first, code) in [(refusal(503, "", &[]), "5xx"), (limited("0"), "4xx")] {
        let rig = Rig::both(&same, "", "").await;
        rig.main_answers([first, whole()]);
        assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat());
        assert_eq!(rig.seen(), (2, 0));
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, code)]);
        rig.finish(1).await;
    }
    // Once more, and no more; and not where the upstream asks for more time, or the key is of no use.
    for (answers, seen) in [
        (vec![refusal(503, "", &[]), refusal(503, "", &[])], 2),
        (vec![limited("2")], 1),
        (vec![refusal(401, "invalid_api_key", &[])], 1),
    ] {
        let rig = Rig::both(&same, "", "").await;
        rig.main_answers(answers);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
        assert_eq!(rig.seen(), (seen, 1));
        rig.finish(1).await;
    }
}
