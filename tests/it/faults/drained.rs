//! `on_disconnect = "drain"`: a caller who leaves has what it asked for counted all the same.

use sluicegate::{
    app::Ended,
    simulator::{Cut, Framing, Gate, Head, Script, Step},
};

use super::rig::{DONE, HELLO, ROLE, Rig, SPARE, refusing, streamed};
use crate::harness::{CHAT, Client, Http, log, post, request, safely, send, take, whole};

const DRAIN: &str = "on_disconnect = \"drain\"";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9,\"total_tokens\":16}}\n\n";

/// An answer whose rest comes when the gate is opened.
fn in_two(gate: &Gate, first: &[&'static str]) -> Script {
    let mut steps = if first.is_empty() { Vec::new() } else { streamed(first) };
    steps.push(Step::Gate(gate.clone()));
    if first.is_empty() {
        steps.extend(streamed(&[ROLE, HELLO]));
    }
    steps.extend([USAGE, DONE].map(|piece| Step::Send(piece.into())));
    Script::new(steps)
}

async fn leaves(rig: &Rig, http: Http, after: usize) {
    let address = rig.gateway.address();
    let mut client = Client::connect(address, http).await;
    let request = post(address, http, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    if after == 0 {
        let pending = client.begin(request).await;
        safely(rig.main.wait_for(|records| (!records.is_empty()).then_some(()))).await;
        drop(pending);
    } else {
        let mut response = safely(client.send(request)).await.unwrap();
        take(response.body_mut(), after).await;
        drop(response);
    }
    client.leave().await;
    // Until the gateway has seen it.
    safely(async {
        while rig.gateway.loads().iter().any(|(_, connections)| *connections > 0) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_left_in_any_phase_is_read_to_its_usage() {
    for http in crate::harness::BOTH {
        for (first, phase) in [(&[ROLE, HELLO][..], "stream"), (&[][..], "first_byte")] {
            let rig = Rig::alone("", "", DRAIN).await;
            let gate = Gate::new();
            rig.main_answers([in_two(&gate, first)]);
            let sent: usize = first.iter().map(|piece| piece.len()).sum();
            leaves(&rig, http, sent).await;
            gate.open();
            let line = rig.line().await;
            assert_eq!((&line["error"], &line["phase"]), (&"caller_left".into(), &phase.into()), "{line:#}");
            assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&7.into(), &9.into()), "{line:#}");
            assert_eq!(line["bytes_out"], sent, "what was read on did not go to the caller: {line:#}");
            rig.finish(1).await;
        }
    }
}

/// The attempts go on as they would have.
#[tokio::test]
async fn a_failure_after_the_caller_has_left_is_made_up_for() {
    let rig = Rig::both("", "", DRAIN).await;
    let gate = Gate::new();
    let mut steps = vec![Step::Gate(gate.clone())];
    steps.extend(refusing(503, "", &[]));
    rig.main_answers([Script::new(steps)]);
    let mut spare = streamed(&[ROLE, SPARE]);
    spare.extend([USAGE, DONE].map(|piece| Step::Send(piece.into())));
    rig.spare.queue(Script::new(spare));
    leaves(&rig, Http::One, 0).await;
    gate.open();
    let line = rig.line().await;
    assert_eq!((log::attempts(&line), &line["tokens_out"]), (2, &9.into()), "{line:#}");
    rig.finish(1).await;
}

#[tokio::test]
async fn by_default_the_upstream_is_told_to_stop() {
    let rig = Rig::alone("", "", "").await;
    let gate = Gate::new();
    rig.main_answers([in_two(&gate, &[ROLE, HELLO])]);
    leaves(&rig, Http::One, ROLE.len() + HELLO.len()).await;
    let line = rig.line().await;
    assert!(line["error"] == "caller_left" && line["usage"] == "estimated", "{line:#}");
    rig.finish(1).await;
}

/// Asks it to stop, and waits until it listens no more and says that it is not ready.
async fn stopping(rig: &Rig) {
    rig.gateway.ask_to_stop();
    safely(async { while tokio::net::TcpStream::connect(rig.gateway.address()).await.is_ok() {} }).await;
    let admin = rig.gateway.admin.unwrap();
    for _ in 0..5 {
        let asked = request(admin, Http::One, "GET", "/readyz").body(whole("")).unwrap();
        assert_eq!(send(admin, Http::One, asked).await.status, 503);
    }
}

/// A stop waits for what is read on, as it does for what is passed on.
#[tokio::test]
async fn a_gateway_that_is_stopped_reads_on_for_the_usage() {
    for http in crate::harness::BOTH {
        for (first, phase) in [(&[ROLE, HELLO][..], "stream"), (&[][..], "first_byte")] {
            let mut rig = Rig::alone("", "", DRAIN).await;
            let gate = Gate::new();
            rig.main_answers([in_two(&gate, first)]);
            leaves(&rig, http, first.iter().map(|piece| piece.len()).sum()).await;
            stopping(&rig).await;
            gate.open();
            assert_eq!(rig.gateway.ended().await, Ended::Drained);
            let line = rig.line().await;
            assert_eq!((&line["error"], &line["phase"]), (&"caller_left".into(), &phase.into()), "{line:#}");
            assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&7.into(), &9.into()), "{line:#}");
        }
    }
}

/// Asked again, it waits no longer: what was read on is cut, and what its tokens were is estimated.
#[tokio::test]
async fn what_is_read_on_for_too_long_is_cut_with_the_rest() {
    let mut rig = Rig::alone("", "", DRAIN).await;
    rig.main_answers([in_two(&Gate::new(), &[ROLE, HELLO])]);
    leaves(&rig, Http::One, ROLE.len() + HELLO.len()).await;
    stopping(&rig).await;
    rig.gateway.ask_to_stop();
    assert_eq!(rig.gateway.ended().await, Ended::Cut(1));
    let line = rig.line().await;
    assert!(line["error"] == "caller_left" && line["usage"] == "estimated", "{line:#}");
}

/// An upstream that never ends is left after so many bytes.
#[tokio::test]
async fn it_is_bounded() {
    let rig = Rig::alone("", "", DRAIN).await;
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions")
        .header("x-simulate", "frames=100000000; size=10000")
        .body(whole(CHAT))
        .unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    let first = safely(http_body_util::BodyExt::frame(response.body_mut())).await;
    assert!(first.is_some_and(|frame| frame.is_ok()));
    drop(response);
    client.leave().await;
    let line = rig.line().await;
    assert_eq!(line["error"], "caller_left", "{line:#}");
    rig.finish(1).await;
}

/// What breaks off then is over at once: there is nobody to be told.
#[tokio::test]
async fn a_document_that_breaks_off_without_a_caller_ends_the_exchange() {
    let rig = Rig::alone("retry = \"off\"", "", DRAIN).await;
    let gate = Gate::new();
    rig.main_answers([Script::new(vec![
        Step::Head(Head::json(http::StatusCode::OK, 100)),
        Step::Send("{\"choices\":".into()),
        Step::Gate(gate.clone()),
        Step::Cut(Cut::Reset),
    ])]);
    leaves(&rig, Http::One, "{\"choices\":".len()).await;
    gate.open();
    let line = rig.line().await;
    assert_eq!((&line["error"], &line["phase"]), (&"caller_left".into(), &"stream".into()), "{line:#}");
    rig.finish(1).await;
}

/// A whole answer is gathered for its usage alone then, and no further than any other; the route would have let it be larger.
#[tokio::test]
async fn a_whole_answer_is_bounded_when_its_caller_has_left() {
    const PIECE: usize = 1 << 20;
    let rig = Rig::alone(
        "retry = \"off\"\nbody_limit = \"64MiB\"",
        "",
        "delivery = \"whole\"\non_disconnect = \"drain\"",
    )
    .await;
    let gate = Gate::new();
    let head = Head::new(http::StatusCode::OK, "application/json", Framing::Chunked);
    let mut steps = vec![Step::Head(head), Step::Send("{\"choices\":[\"".into()), Step::Gate(gate.clone())];
    steps.extend((0..17).map(|_| Step::Send(vec![b'x'; PIECE].into())));
    // Nothing but the bound ends it.
    steps.push(Step::Stall);
    rig.main_answers([Script::new(steps)]);
    leaves(&rig, Http::One, 0).await;
    gate.open();
    let line = rig.line().await;
    assert_eq!((&line["error"], &line["bytes_out"]), (&"caller_left".into(), &0.into()), "{line:#}");
    let left = safely(rig.main.record(1)).await;
    assert!(left.ended.is_some_and(|(_, how)| how.peer_left()), "{left:?}");
    assert!(left.sent >= 16 * PIECE as u64, "{left:?}");
    rig.finish(1).await;
}
