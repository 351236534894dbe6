//! Keys of streams that are not held: an error event about the key starts its cooldown, and the first other event shows that it works.

use std::time::Instant;

use serde_json::Value;
use sluicegate::simulator::{Gate, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, keys_in_cooldown, refusal, stream, streamed};
use crate::{
    cli::process::{self, Running},
    folder::Folder,
    harness::{CHAT, GatewayToml, Http, post, safely, send, simulator, whole},
    metrics::scrape::Scrape,
};

const UNHELD: &str = "commit = \"headers\"";
const NO_CREDIT: &str =
    "data: {\"error\":{\"message\":\"no credit\",\"type\":\"insufficient_quota\",\"code\":null}}\n\n";
const REFUSED: &str = "data: {\"error\":{\"message\":\"no\",\"type\":\"authentication_error\",\"code\":\"invalid_api_key\"}}\n\n";
const FLAT: &str = "data: {\"object\":\"error\",\"message\":\"no credit\",\"type\":\"insufficient_balance\",\"code\":\"insufficient_balance\"}\n\n";
/// The body ends without the blank line.
const LAST: &str =
    "data: {\"error\":{\"message\":\"no credit\",\"type\":\"insufficient_quota\",\"code\":null}}\n";
const OVERLOADED: &str =
    "data: {\"error\":{\"message\":\"try later\",\"type\":\"server_error\",\"code\":null}}\n\n";

#[tokio::test]
async fn an_error_event_about_the_key_starts_its_cooldown_wherever_it_is() {
    for pieces in [
        &[NO_CREDIT][..],
        &[REFUSED, DONE],
        &[FLAT],
        &[ROLE, NO_CREDIT],
        &[ROLE, HELLO, REFUSED],
        &[ROLE, HELLO, LAST],
    ] {
        let rig = Rig::both(QUICK, "", UNHELD).await;
        rig.main_answers([stream(pieces)]);
        assert_eq!(rig.chat().await.status, 200);
        assert_eq!(keys_in_cooldown(&rig, "main"), 1, "{pieces:?}");
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat(), "{pieces:?}");
        assert_eq!(rig.seen(), (1, 1), "{pieces:?}");
        let counts = Scrape::of(rig.gateway.admin.unwrap(), "").await;
        assert_eq!(counts.sum("sluicegate_upstream_key_rests_total", &["upstream=\"main\""]), 1.0);
        rig.finish(2).await;
    }
}

/// The start of a stream is held, and the error comes later.
#[tokio::test]
async fn an_error_event_behind_the_held_start_counts_too() {
    let rig = Rig::both(QUICK, "", "commit = \"first_token\"").await;
    rig.main_answers([stream(&[ROLE, HELLO, NO_CREDIT])]);
    assert_eq!(rig.chat().await.text(), [ROLE, HELLO, NO_CREDIT].concat());
    assert_eq!(keys_in_cooldown(&rig, "main"), 1);
    rig.finish(1).await;
}

#[tokio::test]
async fn other_error_events_say_nothing_about_the_key() {
    for pieces in [&[OVERLOADED][..], &[ROLE, HELLO, OVERLOADED], &[ROLE, HELLO, DONE]] {
        let rig = Rig::both(QUICK, "", UNHELD).await;
        rig.main_answers([stream(pieces)]);
        assert_eq!(rig.chat().await.text(), pieces.concat());
        assert_eq!(keys_in_cooldown(&rig, "main"), 0, "{pieces:?}");
        rig.finish(1).await;
    }
}

/// A server error that names an empty account is the account's, not the server's.
#[tokio::test]
async fn a_5xx_that_names_an_account_without_credit_starts_the_cooldown_of_its_key() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([refusal(500, "insufficient_user_quota", &[])]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    assert_eq!((rig.seen(), keys_in_cooldown(&rig, "main")), ((1, 1), 1));
    rig.finish(1).await;
}

/// The error that an attempt has left is kept until the request is over.
#[tokio::test]
async fn an_error_event_that_is_kept_counts_in_max_buffered() {
    const KEPT: usize = 50_000;
    let event =
        format!("data: {{\"error\":{{\"message\":\"{}\",\"type\":\"server_error\"}}}}\n\n", "x".repeat(KEPT));
    for route in ["", "delivery = \"whole\""] {
        let rig = Rig::both(QUICK, "", route).await;
        let gate = Gate::new();
        let head = streamed(&[]).remove(0);
        rig.main_answers([Script::new(vec![head, Step::Send(event.clone().into())])]);
        let answer = [Step::Gate(gate.clone())].into_iter().chain(streamed(&[ROLE, SPARE, DONE]));
        rig.spare.queue(Script::new(answer.collect()));
        let course = async {
            rig.spare.wait_for(|records| (!records.is_empty()).then_some(())).await;
            let held = rig.gateway.buffered();
            gate.open();
            held
        };
        let (answer, held) = safely(async { tokio::join!(rig.chat(), course) }).await;
        assert_eq!(answer.text(), [ROLE, SPARE, DONE].concat(), "{route}");
        assert!(held >= KEPT as u64, "{route}: {held}");
        rig.gateway.holds_nothing().await;
        rig.finish(1).await;
    }
}

/// The program's own log says once that a key does not work, and once that it works again: the head of a stream shows neither.
#[tokio::test]
async fn an_outage_of_a_key_is_in_the_log_once_and_so_is_its_end() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let toml = GatewayToml::before(&upstream.url(), "").route(format!("{UNHELD}\naccess = \"open\""));
    let file = folder.write("gateway.toml", &toml.without_client().to_string());
    let mut gateway = Running::of(process::command(process::BINARY).args(["--config", &file]));
    let address = gateway.address();
    for pieces in [&[NO_CREDIT][..], &[ROLE, HELLO, DONE], &[ROLE, HELLO, DONE]] {
        // The second one falls into the same outage.
        let times = if pieces == [NO_CREDIT] { 2 } else { 1 };
        for _ in 0..times {
            upstream.queue(stream(pieces));
            let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            assert_eq!(send(address, Http::One, request).await.status, 200);
        }
    }
    gateway.terminate();
    let (_, lines) = gateway.ended();
    let about_keys: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("upstream key")))
        .collect();
    let [begins, ends] = &about_keys[..] else { panic!("{about_keys:#?}") };
    assert_eq!(
        begins["message"],
        "upstream key does not work; it stays in use, because nothing else is available"
    );
    assert_eq!((&begins["key"], &begins["why"]), (&1.into(), &"quota_spent".into()), "{begins}");
    assert_eq!(ends["message"], "upstream key works again");
    assert_eq!((&ends["upstream"], &ends["key"]), (&begins["upstream"], &1.into()), "{ends}");
}

/// The probe of an outage is its stream's first event, not its head.
#[tokio::test]
async fn a_key_works_again_with_the_first_event_of_a_stream() {
    let rig = Rig::both(QUICK, "", UNHELD).await;
    let live = rig.gateway.inside().live.load_full();
    let keys = &live.upstreams["main"].keys;
    rig.main_answers([refusal(402, "insufficient_quota", &[("retry-after", "0")])]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.status, 200);
    let gate = Gate::new();
    let mut steps = streamed(&[": keep-alive\n\n"]);
    steps.extend([Step::Gate(gate.clone()), Step::Send(ROLE.into()), Step::Send(HELLO.into())]);
    steps.push(Step::Send(DONE.into()));
    rig.main_answers([Script::new(steps)]);
    let course = async {
        rig.main.wait_for(|records| (records.len() == 2).then_some(())).await;
        assert_eq!(keys.cooling_down(Instant::now()).1, 1);
        gate.open();
    };
    let (answer, ()) = safely(async { tokio::join!(rig.chat(), course) }).await;
    assert!(answer.text().ends_with(DONE), "{answer:?}");
    assert_eq!(keys.cooling_down(Instant::now()).1, 0);
    rig.finish(2).await;
}
