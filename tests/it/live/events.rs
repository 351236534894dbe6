//! What viewers are sent.

use http::StatusCode;
use serde_json::json;
use sluicegate::simulator::{Gate, Head, Script, Step};

use super::viewer::Viewer;
use crate::harness::{
    CHAT, Client, Gateway, GatewayToml, Http, chat, post, request, safely, send, simulator, take, whole,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const BUSY: &str = r#"{"error":{"message":"busy","type":"server_error","code":null}}"#;

#[tokio::test]
async fn a_request_in_flight_is_shown_with_its_attempts_until_it_has_ended() {
    let upstream = simulator().await;
    let gate = Gate::new();
    let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, BUSY.len());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(BUSY.into())]));
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(gate.clone()),
        Step::Send("data: [DONE]\n\n".into()),
    ]));
    let toml = GatewayToml::before(&upstream.url(), "retry = { backoff = \"20ms\" }").admin();
    let gateway = Gateway::start(&toml);
    // The request is open before anybody looks.
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let asked = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(asked)).await.unwrap();
    take(response.body_mut(), EVENT.len()).await;

    let mut viewer = Viewer::join(gateway.admin.unwrap()).await;
    let (id, row) = viewer.request(|row| row["phase"] == "stream").await;
    assert_eq!(response.headers()["x-request-id"], id);
    assert_eq!(
        (&row["client"], &row["route"], &row["upstream"]),
        (&json!("tester"), &json!("main"), &json!("sim"))
    );
    assert_eq!(
        (&row["model"], &row["attempts"], &row["events"]),
        (&json!("gpt-4o-mini"), &json!(2), &json!(1))
    );
    assert!(row["first_token"].is_u64() && row["last"].is_i64(), "{row:#}");
    let tried = &row["tried"];
    assert_eq!((&tried[0]["status"], &tried[0]["result"]), (&json!(503), &json!("5xx")), "{row:#}");
    assert!(
        tried[0]["end"].is_u64() && tried[1].get("end").is_none() && tried[1]["head"].is_u64(),
        "{row:#}"
    );
    assert!(viewer.finished.is_empty());

    let asked = request(gateway.admin.unwrap(), Http::One, "GET", "/status").body(whole("")).unwrap();
    let status = send(gateway.admin.unwrap(), Http::One, asked).await.json();
    let open = &status["exchanges"][0];
    assert_eq!(
        (&open["model"], &open["upstream"], &open["phase"]),
        (&row["model"], &row["upstream"], &row["phase"])
    );
    assert_eq!((&open["attempts"], &open["events"]), (&json!(2), &json!(1)), "{open:#}");

    gate.open();
    viewer.until(|viewer| viewer.state["streams"].as_object()?.is_empty().then_some(())).await;
    let line = viewer.until(|viewer| viewer.finished.first().cloned()).await;
    let logged = gateway.log.line(1).await;
    for field in
        ["request_id", "caller", "model", "status", "who", "phase", "events", "total_ms", "first_token_ms"]
    {
        assert_eq!(line[field], logged[field], "{field}");
    }
    assert_eq!(line["attempts"].as_array().map(Vec::len), Some(2));
    let text = viewer.until(|viewer| viewer.log.iter().find(|line| line.contains(&id)).cloned()).await;
    assert!(text.contains("\"kind\":\"access\""), "{text}");
}

#[tokio::test]
async fn what_failed_is_kept_for_who_comes_later_and_what_went_well_is_not() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&GatewayToml::before(&upstream.url(), "retry = \"off\"").admin());
    assert!(chat(gateway.address(), Http::One).await.whole);
    let head = Head::event_stream();
    upstream.queue(Script::new(vec![
        Step::Head(head),
        Step::Send(EVENT.into()),
        Step::Cut(sluicegate::simulator::Cut::Reset),
    ]));
    chat(gateway.address(), Http::One).await;
    // A stranger's request is nothing to remember.
    let stranger =
        request(gateway.address(), Http::One, "POST", "/v1/chat/completions").body(whole(CHAT)).unwrap();
    assert_eq!(send(gateway.address(), Http::One, stranger).await.status, 401);
    gateway.log.line(3).await;

    let mut viewer = Viewer::join(gateway.admin.unwrap()).await;
    let kept = viewer.until(|viewer| (!viewer.finished.is_empty()).then(|| viewer.finished.clone())).await;
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert_eq!(kept[0]["error"], "upstream_truncated");
    assert_eq!(
        kept[0]["attempts"].as_array().map(Vec::len),
        Some(1),
        "the one attempt is there, with its times"
    );

    // Somebody looks now.
    assert!(chat(gateway.address(), Http::One).await.whole);
    let seen = viewer.until(|viewer| viewer.finished.get(1).cloned()).await;
    assert_eq!((&seen["phase"], seen["attempts"][0]["result"].as_str()), (&json!("done"), Some("2xx")));
    let totals = viewer
        .until(|viewer| (viewer.state["totals"]["finished"] == 4).then(|| viewer.state["totals"].clone()))
        .await;
    assert_eq!((&totals["failed"], &totals["broken"]), (&json!(1), &json!(1)), "{totals:#}");
}

#[tokio::test]
async fn a_change_of_the_configuration_is_shown_with_what_differs_and_what_is_wrong() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "").admin();
    let gateway = Gateway::start(&toml);
    let mut viewer = Viewer::join(gateway.admin.unwrap()).await;
    let first =
        viewer.until(|viewer| viewer.configuration.is_object().then(|| viewer.configuration.clone())).await;
    assert_eq!((&first["generation"], &first["changes"]), (&json!(1), &json!([])));
    gateway.reload(&toml.clone().route("body_limit = \"3MiB\"")).await;
    let second = viewer
        .until(|viewer| (viewer.configuration["generation"] == 2).then(|| viewer.configuration.clone()))
        .await;
    assert_eq!(second["changes"], json!([{ "path": "route.main.body_limit", "after": "3MiB" }]));
    let problems = sluicegate::config::Problems {
        file: "gateway.toml".into(),
        problems: vec![sluicegate::config::Problem {
            path: "route.main".into(),
            line: 7,
            column: 1,
            message: "is wrong".into(),
            help: "".into(),
        }],
    };
    gateway.inside().refuse(&problems);
    let third = viewer.until(|viewer| viewer.configuration["problems"].get(0).cloned()).await;
    assert_eq!(third, "gateway.toml:7:1: route.main: is wrong");
    let notice = viewer.until(|viewer| viewer.state["notices"].get(0).cloned()).await;
    assert_eq!(
        (&notice["who"], notice["text"].as_str().unwrap().contains("refused")),
        (&json!("gateway"), true)
    );
}

#[tokio::test]
async fn events_need_the_token_and_the_files_do_not() {
    let upstream = simulator().await;
    let more = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = { env = \"UPSTREAM_KEY\" }";
    let gateway = Gateway::start(&GatewayToml::before(&upstream.url(), "").more(more));
    let admin = gateway.admin.unwrap();
    let get = async |path: &str| {
        send(admin, Http::One, request(admin, Http::One, "GET", path).body(whole("")).unwrap()).await
    };
    for path in ["/live/events", "/live/drain", "/status", "/live/other"] {
        assert_eq!(get(path).await.status, 401, "{path}");
    }
    for (path, kind) in
        [("/live", "text/html"), ("/live/page.css", "text/css"), ("/live/page.js", "text/javascript")]
    {
        let file = get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert!(file.headers["content-type"].to_str().unwrap().starts_with(kind));
        let policy = file.headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!file.text().contains("sim") || path != "/live", "nothing of this gateway is in it");
    }
    assert_eq!(
        (get("/").await.status, &get("/").await.headers["location"]),
        (StatusCode::FOUND, &"/live".parse().unwrap())
    );
    let foreign = request(admin, Http::One, "GET", "/live/events")
        .header("authorization", format!("Bearer {}", crate::harness::UPSTREAM_KEY))
        .header("sec-fetch-site", "cross-site");
    assert_eq!(send(admin, Http::One, foreign.body(whole("")).unwrap()).await.status, 403);
    let mut viewer = Viewer::with_token(admin, Some(crate::harness::UPSTREAM_KEY)).await;
    viewer.until(|viewer| viewer.state.is_object().then_some(())).await;
}

#[tokio::test]
async fn a_viewer_that_asks_for_the_state_alone_gets_nothing_else() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"").admin();
    let gateway = Gateway::start(&toml);
    let admin = gateway.admin.unwrap();
    let mut few = Viewer::of(admin, None, "/live/events?topics=state").await;
    few.until(|viewer| viewer.state.is_object().then_some(())).await;
    // Nobody looks at finished requests, so one that goes well is not kept.
    assert!(chat(gateway.address(), Http::One).await.whole);
    gateway.log.line(1).await;
    gateway.reload(&toml.clone().route("body_limit = \"3MiB\"")).await;
    few.until(|viewer| (viewer.state["gateway"]["generation"] == 2).then_some(())).await;
    few.until(|viewer| (viewer.state["totals"]["finished"] == 1).then_some(())).await;
    let mut all = Viewer::join(admin).await;
    all.until(|viewer| (viewer.configuration["generation"] == 2).then_some(())).await;
    assert!(all.finished.is_empty(), "{:#?}", all.finished);
    assert!(chat(gateway.address(), Http::One).await.whole);
    all.until(|viewer| viewer.finished.first().cloned()).await;
    all.until(|viewer| (viewer.state["totals"]["finished"] == 2).then_some(())).await;
    few.until(|viewer| (viewer.state["totals"]["finished"] == 2).then_some(())).await;
    assert!(few.finished.is_empty() && few.log.is_empty() && few.configuration.is_null());
    let unknown = request(admin, Http::One, "GET", "/live/events?topics=state,prompts");
    assert_eq!(send(admin, Http::One, unknown.body(whole("")).unwrap()).await.status, 400);
}

#[tokio::test]
async fn another_admin_token_ends_the_streams_of_those_who_came_with_the_old_one() {
    let upstream = simulator().await;
    let folder = crate::folder::Folder::new();
    let token = |text: &str| {
        let file = folder.write(text, text);
        let admin = format!("[admin]\naddress = \"127.0.0.1:0\"\ntoken = {{ file = {file:?} }}");
        GatewayToml::before(&upstream.url(), "").more(admin)
    };
    let gateway = Gateway::start(&token("token-of-yesterday"));
    let admin = gateway.admin.unwrap();
    let mut old = Viewer::with_token(admin, Some("token-of-yesterday")).await;
    old.until(|viewer| viewer.state.is_object().then_some(())).await;
    gateway.reload(&token("token-of-today")).await;
    old.ended().await;
    let mut new = Viewer::with_token(admin, Some("token-of-today")).await;
    new.until(|viewer| viewer.state.is_object().then_some(())).await;
    // A reload that leaves it as it is ends nothing.
    gateway.reload(&token("token-of-today").route("body_limit = \"3MiB\"")).await;
    new.until(|viewer| (viewer.state["gateway"]["generation"] == 3).then_some(())).await;
    let asked =
        request(admin, Http::One, "GET", "/live/events").header("authorization", "Bearer token-of-yesterday");
    assert_eq!(send(admin, Http::One, asked.body(whole("")).unwrap()).await.status, 401);
}

#[tokio::test]
async fn the_shared_store_and_what_models_cost_are_shown_where_they_are_configured() {
    let redis = crate::harness::redis::RedisServer::start(&[]);
    let upstream = simulator().await;
    let more = format!(
        "[limit.shared]\nrequests = 100\nper = \"1h\"\n[redis]\nurl = \"{}\"\n[pricing]\ncurrency = \"EUR\"\n\
         [pricing.model.\"gpt-4o*\"]\ninput = \"2.50\"\noutput = \"10.00\"",
        redis.url()
    );
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"");
    let gateway = Gateway::start(&toml.clone().defaults("limits = [\"shared\"]").admin().more(more));
    let mut viewer = Viewer::join(gateway.admin.unwrap()).await;
    viewer.until(|viewer| (viewer.state["store"]["available"] == true).then_some(())).await;
    let answer = chat(gateway.address(), Http::One).await;
    assert!(answer.whole);
    let line = gateway.log.line_of(&answer).await;
    let cost = |row: &serde_json::Value| (row["cost"] == line["cost"]).then_some(());
    viewer.until(|viewer| cost(&viewer.state["models"]["gpt-4o-mini"])).await;
    viewer.until(|viewer| cost(&viewer.state["clients"]["tester"])).await;
    assert_eq!(viewer.state["currency"], "EUR");
    drop(redis);
    let notice = viewer
        .until(|viewer| {
            let mut notices = viewer.state["notices"].as_array()?.iter();
            notices.find(|notice| notice["who"] == "redis").cloned()
        })
        .await;
    assert!(notice["text"].as_str().unwrap().starts_with("limits are not shared"), "{notice}");
    assert_eq!(viewer.state["store"]["available"], false);

    let plain = Gateway::start(&toml.admin());
    let mut viewer = Viewer::join(plain.admin.unwrap()).await;
    viewer.until(|viewer| viewer.state.is_object().then_some(())).await;
    for member in ["store", "currency"] {
        assert!(viewer.state.get(member).is_none(), "{member}");
    }
}
