//! The bytes: preflight requests, and the headers of every other response.

use http::{HeaderValue, StatusCode, request::Builder};
use sluicegate::simulator::{Gate, Head, Script, Step};

use crate::harness::{
    Answer, BOTH, CHAT, Client, Gateway, GatewayToml, Http, Keys, authorised, post, request, safely, send,
    simulator, take, whole,
};

const PAGE: &str = "https://app.test";
const CORS: &str = "cors = { origins = [\"https://app.test\", \"https://*.apps.test\"], max_age = \"5m\" }";

/// What openai-node 7 asks for in a browser.
const ASKED: &str = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,\
                     x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,\
                     x-stainless-runtime-version,x-stainless-timeout";
const ALL_OF_A_PREFLIGHT: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

fn of_page(request: Builder) -> Builder {
    request.header("origin", PAGE)
}

fn preflight(gateway: &Gateway, http: Http, path: &str, method: &str) -> Builder {
    let request = request(gateway.address(), http, "OPTIONS", path);
    request.header("access-control-request-method", method)
}

async fn ask(gateway: &Gateway, http: Http, request: Builder) -> Answer {
    send(gateway.address(), http, request.body(whole("")).unwrap()).await
}

/// All lines of a header.
fn lines(answer: &Answer, name: &str) -> Vec<String> {
    let lines = answer.headers.get_all(name).iter();
    lines.map(|line| line.to_str().unwrap().to_owned()).collect()
}

fn names_of_cors(answer: &Answer) -> Vec<String> {
    let names = answer.headers.keys().map(|name| name.as_str().to_owned());
    names.filter(|name| name.starts_with("access-control-")).collect()
}

/// That the page may read the response: one origin, its own, and each of the other headers by its name.
fn is_for_the_page(answer: &Answer) {
    assert_eq!(lines(answer, "access-control-allow-origin"), [PAGE], "{answer:?}");
    assert!(lines(answer, "vary").iter().any(|line| line == "Origin"), "{answer:?}");
    let exposed = lines(answer, "access-control-expose-headers");
    assert_eq!(exposed.len(), 1, "{answer:?}");
    let exposed: Vec<&str> = exposed[0].split(", ").collect();
    for name in ["x-request-id", "retry-after", "x-should-retry", "x-upstream-request-id", "location"] {
        assert_eq!(exposed.contains(&name), answer.headers.contains_key(name), "{name}: {answer:?}");
    }
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn a_preflight_is_granted_before_anything_else_is_looked_at() {
    for http in BOTH {
        let upstream = simulator().await;
        let mut gateway = Gateway::with(&upstream, Http::One, Keys { route: CORS, ..Keys::default() });
        for (method, path) in [
            ("POST", "/v1/chat/completions"),
            ("DELETE", "/v1/files/file-1"),
            ("GET", "/v1/models/org%2Fm?x=y"),
        ] {
            let request = of_page(preflight(&gateway, http, path, method))
                .header("access-control-request-headers", ASKED)
                .header("access-control-request-private-network", "true");
            let answer = ask(&gateway, http, request).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
            for (name, value) in [
                ("access-control-allow-origin", PAGE),
                ("access-control-allow-methods", method),
                ("access-control-allow-headers", ASKED),
                ("access-control-max-age", "300"),
                ("access-control-allow-private-network", "true"),
                ("vary", ALL_OF_A_PREFLIGHT),
            ] {
                assert_eq!(lines(&answer, name), [value], "{name}");
            }
            assert!(answer.body.is_empty() && !answer.headers.contains_key("content-length"));
        }
        // Nothing is allowed that was not asked for.
        let bare = ask(&gateway, http, of_page(preflight(&gateway, http, "/v1/models", "GET"))).await;
        assert_eq!(names_of_cors(&bare).len(), 3, "{bare:?}");
        gateway.ask_to_stop();
        gateway.ended().await;
        assert!(gateway.log.access().is_empty(), "no line for a preflight that was granted");
        let counts = gateway.counts();
        assert_eq!(counts.preflights.values().sum::<u64>(), 4);
        assert_eq!(counts.exchanges.values().sum::<u64>(), 0);
        assert!(upstream.records().is_empty());
    }
}

#[tokio::test]
async fn a_preflight_of_another_page_is_refused_and_logged() {
    for http in BOTH {
        let upstream = simulator().await;
        let gateway = Gateway::with(&upstream, Http::One, Keys { route: CORS, ..Keys::default() });
        let origins = [
            "https://evil.test",
            "http://app.test",
            "https://app.test:8443",
            "https://app.test.evil.test",
            "https://apps.test",
            "https://a.b.apps.test",
            "null",
            "https://app.test, https://evil.test",
            "",
        ];
        for origin in origins {
            let request = preflight(&gateway, http, "/v1/chat/completions", "POST").header("origin", origin);
            let answer = ask(&gateway, http, request).await;
            assert_eq!((answer.status, &*answer.code()), (StatusCode::FORBIDDEN, "origin_not_allowed"));
            assert_eq!(names_of_cors(&answer), [""; 0], "{answer:?}");
            assert!(lines(&answer, "vary").contains(&"Origin".to_owned()), "{answer:?}");
            let line = gateway.log.line_of(&answer).await;
            assert_eq!((&line["route"], &line["error"]), (&"main".into(), &"origin_not_allowed".into()));
            assert_eq!(line["cause"], format!("the origin is {origin}"), "{line}");
        }
        let twice =
            of_page(preflight(&gateway, http, "/v1/models", "GET")).header("origin", "https://evil.test");
        assert_eq!(ask(&gateway, http, twice).await.status, StatusCode::FORBIDDEN);
        let of_subdomain =
            preflight(&gateway, http, "/v1/models", "GET").header("origin", "https://a.apps.test");
        assert_eq!(ask(&gateway, http, of_subdomain).await.status, StatusCode::NO_CONTENT);
        gateway.finish(origins.len() + 1).await;
        assert!(upstream.records().is_empty());
    }
}

#[tokio::test]
async fn a_malformed_preflight_is_a_bad_request_that_the_page_may_not_read() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { route: CORS, ..Keys::default() });
    let long = vec!["x"; 3000].join(",");
    for names in ["a b", "authorization,", "x: y", "\"x\"", &*long] {
        let request = of_page(preflight(&gateway, Http::One, "/v1/models", "GET"))
            .header("access-control-request-headers", names);
        let answer = ask(&gateway, Http::One, request).await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::BAD_REQUEST, "invalid_request"), "{names}");
        assert_eq!(names_of_cors(&answer), [""; 0], "{answer:?}");
    }
    for method in ["GE T", "", "TRACE", "CONNECT"] {
        let request = of_page(preflight(&gateway, Http::One, "/v1/models", method));
        assert_eq!(ask(&gateway, Http::One, request).await.status, StatusCode::BAD_REQUEST, "{method}");
    }
    gateway.finish(9).await;
}

#[tokio::test]
async fn any_other_options_request_is_treated_as_before() {
    let upstream = simulator().await;
    let open = "[route.open]\npath = \"/open\"\nrewrite = \"/v1\"\nupstreams = [\"sim\"]\naccess = \"open\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { route: CORS, more: open, ..Keys::default() });
    let address = gateway.address();
    // Not of a page, or not a preflight.
    let of_program = preflight(&gateway, Http::One, "/v1/models", "GET");
    assert_eq!(ask(&gateway, Http::One, of_program).await.code(), "missing_api_key");
    let plain = of_page(request(address, Http::One, "OPTIONS", "/v1/models"));
    let answer = ask(&gateway, Http::One, plain).await;
    assert_eq!(answer.code(), "missing_api_key");
    is_for_the_page(&answer);
    // Of a route without `cors`: the upstream decides about pages, and its headers pass.
    let mut head = Head::json(StatusCode::OK, 2);
    head.headers.insert("access-control-allow-origin", HeaderValue::from_static("https://theirs.test"));
    head.headers.insert("access-control-max-age", HeaderValue::from_static("7"));
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
    let answer =
        ask(&gateway, Http::One, of_page(preflight(&gateway, Http::One, "/open/models", "GET"))).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(lines(&answer, "access-control-allow-origin"), ["https://theirs.test"]);
    assert_eq!(lines(&answer, "access-control-max-age"), ["7"]);
    assert_eq!(lines(&answer, "vary"), [""; 0]);
    gateway.finish(3).await;
    assert_eq!(upstream.records().len(), 1);
}

#[tokio::test]
async fn the_announced_method_decides_the_route() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "").route(format!("methods = [\"GET\"]\n{CORS}")).more(
        "[route.writing]\npath = \"/v1\"\nmethods = [\"POST\"]\nupstreams = [\"sim\"]\n\
             cors = { origins = [\"https://other.test\"] }",
    );
    let gateway = Gateway::start(&toml);
    for (method, origin, status) in [
        ("GET", PAGE, 204),
        ("POST", PAGE, 403),
        ("POST", "https://other.test", 204),
        ("GET", "https://other.test", 403),
    ] {
        let request = preflight(&gateway, Http::One, "/v1/models", method).header("origin", origin);
        assert_eq!(ask(&gateway, Http::One, request).await.status, status, "{method} {origin}");
    }
    // No route takes it, and `[defaults]` lists no page.
    let other = of_page(preflight(&gateway, Http::One, "/v1/models", "PUT"));
    let answer = ask(&gateway, Http::One, other).await;
    assert_eq!((answer.status, names_of_cors(&answer).len()), (StatusCode::METHOD_NOT_ALLOWED, 0));
    gateway.finish(3).await;
}

/// A response of an upstream that has CORS headers of its own.
fn theirs(status: u16, body: &'static str, more: &[(&'static str, &'static str)]) -> Script {
    let mut head = Head::json(StatusCode::from_u16(status).unwrap(), body.len());
    let own = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-theirs"),
        ("vary", "accept-encoding"),
        ("x-request-id", "req_up"),
    ];
    for (name, value) in own.iter().chain(more) {
        head.headers.insert(*name, HeaderValue::from_static(value));
    }
    Script::new(vec![Step::Head(head), Step::Send(body.into())])
}

/// A list of models, a route whose upstream is gone, and one that holds whole responses.
fn many_routes(upstream: &str) -> Gateway {
    let toml = GatewayToml::before(upstream, "retry = \"off\"")
        .listener("h2c = true")
        .defaults(CORS)
        .route("model_tables = \"prefer\"\nmodel_list = \"configured\"")
        .upstream("gone", "http://127.0.0.1:1", "retry = \"off\"")
        .more(
            "[route.gone]\npath = \"/gone\"\nupstreams = [\"gone\"]\n\
             [route.whole]\npath = \"/whole\"\nrewrite = \"/v1\"\nupstreams = [\"sim\"]\ndelivery = \"whole\"\n\
             [model.one]\nupstreams = [\"sim\"]",
        );
    Gateway::start(&toml)
}

#[tokio::test]
async fn a_page_reads_every_response() {
    for http in BOTH {
        let upstream = simulator().await;
        let gateway = many_routes(&upstream.url());
        let limited = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
        upstream.queue(theirs(200, "{}", &[]));
        upstream.queue(theirs(429, limited, &[("retry-after", "1")]));
        upstream.queue(theirs(201, "{}", &[("location", "/v1/realtime/calls/rtc_1")]));
        let post = |path: &str| post(gateway.address(), http, path);
        let get = |path: &str| authorised(gateway.address(), http, "GET", path);
        let without_key = || request(gateway.address(), http, "GET", "/v1/files");
        let embed = r#"{"model":"m","input":"x"}"#;
        let cases = [
            (200, post("/v1/embeddings"), embed),
            (429, post("/v1/embeddings"), embed),
            (201, post("/v1/realtime/calls"), "{}"),
            (200, post("/v1/chat/completions"), CHAT),
            (200, post("/whole/chat/completions"), CHAT),
            (200, get("/v1/models"), ""),
            (404, get("/v1/models/none"), ""),
            (401, without_key(), ""),
            (401, without_key().header("authorization", "Bearer sk-wrong"), ""),
            (404, get("/none"), ""),
            (400, get("/v1/a%00b"), ""),
            (400, post("/v1/chat/completions"), "{"),
            (502, post("/gone/embeddings"), embed),
        ];
        let count = cases.len();
        for (status, request, body) in cases {
            let request = of_page(request).body(whole(body)).unwrap();
            let answer = send(gateway.address(), http, request).await;
            assert_eq!(answer.status, status, "{answer:?}");
            is_for_the_page(&answer);
        }
        gateway.finish(count).await;
    }
}

#[tokio::test]
async fn a_response_that_begins_early_is_for_the_page_too() {
    let upstream = simulator().await;
    let route = format!("{CORS}\ncommit_after = \"50ms\"");
    let gateway = Gateway::with(&upstream, Http::One, Keys { route: &route, ..Keys::default() });
    let gate = Gate::new();
    let steps = vec![
        Step::Gate(gate.clone()),
        Step::Head(Head::event_stream()),
        Step::Send("data: [DONE]\n\n".into()),
    ];
    upstream.queue(Script::new(steps));
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let request =
        of_page(post(gateway.address(), Http::One, "/v1/chat/completions")).body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), ": keep-alive\n\n".len()).await;
    gate.open();
    is_for_the_page(&safely(Answer::read(response)).await);
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_response_to_a_program_says_only_that_it_varies() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { route: CORS, ..Keys::default() });
    let mut head = Head::json(StatusCode::OK, 2);
    head.headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
    let answer =
        ask(&gateway, Http::One, authorised(gateway.address(), Http::One, "GET", "/v1/models")).await;
    assert_eq!(names_of_cors(&answer), [""; 0], "{answer:?}");
    assert_eq!(lines(&answer, "vary"), ["Origin"]);
    // The page of another origin may not have it from a cache.
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_request_of_another_page_reaches_no_upstream() {
    for http in BOTH {
        let upstream = simulator().await;
        let route = format!("{CORS}\naccess = \"open\"");
        let gateway = Gateway::with(&upstream, Http::One, Keys { route: &route, ..Keys::default() });
        // A form of any page can send this without a preflight.
        let request = request(gateway.address(), http, "POST", "/v1/chat/completions")
            .header("content-type", "text/plain")
            .header("origin", "https://evil.test");
        let answer = send(gateway.address(), http, request.body(whole(CHAT)).unwrap()).await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::FORBIDDEN, "origin_not_allowed"));
        assert_eq!((names_of_cors(&answer).len(), lines(&answer, "vary")), (0, vec!["Origin".to_owned()]));
        gateway.finish(1).await;
        assert!(upstream.records().is_empty());
    }
}

#[tokio::test]
async fn a_star_allows_all_pages_without_naming_one() {
    let upstream = simulator().await;
    let route = "cors = { origins = [\"*\"] }";
    let gateway = Gateway::with(&upstream, Http::One, Keys { route, ..Keys::default() });
    for origin in ["https://any.test", "null"] {
        let request = preflight(&gateway, Http::One, "/v1/models", "GET").header("origin", origin);
        let answer = ask(&gateway, Http::One, request).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(lines(&answer, "access-control-allow-origin"), ["*"]);
        assert_eq!(lines(&answer, "access-control-max-age"), ["600"]);
    }
    let answer =
        ask(&gateway, Http::One, authorised(gateway.address(), Http::One, "GET", "/v1/models")).await;
    assert_eq!(lines(&answer, "access-control-allow-origin"), ["*"]);
    assert_eq!(lines(&answer, "vary"), [""; 0]);
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_route_may_differ_from_the_defaults() {
    let upstream = simulator().await;
    let more = "[route.off]\npath = \"/off\"\nupstreams = [\"sim\"]\ncors = \"off\"\n\
                [route.other]\npath = \"/other\"\nupstreams = [\"sim\"]\ncors = { origins = [\"https://other.test\"] }\n\
                [route.refusing]\npath = \"/refusing\"\nupstreams = [\"sim\"]\nrefuse_origin = true";
    let toml = GatewayToml::before(&upstream.url(), "").defaults(CORS).more(more);
    let gateway = Gateway::start(&toml);
    for (path, status) in [
        ("/v1/models", 204),
        ("/off/models", 401),
        ("/other/models", 403),
        ("/refusing/models", 403),
        // So that the page can read the 404 behind it.
        ("/none", 204),
    ] {
        let answer = ask(&gateway, Http::One, of_page(preflight(&gateway, Http::One, path, "GET"))).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    gateway.finish(3).await;
}
