//! Redirects: a caller is sent to the gateway or nowhere, since whoever is sent elsewhere takes their key along.

use http::{HeaderValue, StatusCode, header};
use sluicegate::simulator::{Head, Script, Simulator, Step};

use crate::harness::{Answer, BOTH, Gateway, Http, authorised, send, simulator, whole};

/// A route that keeps its path, one that rewrites it before a base path, and one that is the whole of its upstream.
const ROUTES: &str = r#"
    [upstream.based]
    url = "$URL/base"
    key = { env = "UPSTREAM_KEY" }
    http2 = $HTTP2
retry = "off"
    [route.api]
    path = "/api"
    rewrite = "/v1"
    upstreams = ["based"]
    [route.all]
    path = "/all"
    rewrite = "/"
    upstreams = ["based"]
"#;

fn gateway(upstream: &Simulator, up: Http) -> Gateway {
    let http2 = (up == Http::Two).to_string();
    let more = ROUTES.replace("$URL", &upstream.url()).replace("$HTTP2", &http2);
    Gateway::before(upstream, up, &more)
}

/// Asks for `path`, which is answered with `status` and `location`, in which `$URL` and `$HOST` are the upstream's.
async fn answered(
    upstream: &Simulator,
    gateway: &Gateway,
    (down, path): (Http, &str),
    (status, location): (u16, &str),
) -> Answer {
    let host = upstream.addr().to_string();
    let location = location.replace("$URL", &upstream.url()).replace("$HOST", &host);
    let mut head = Head::json(StatusCode::from_u16(status).unwrap(), 2);
    head.headers.insert(header::LOCATION, HeaderValue::from_str(&location).unwrap());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
    let request = authorised(gateway.address(), down, "GET", path).body(whole("")).unwrap();
    send(gateway.address(), down, request).await
}

/// One to the upstream's own places becomes one to the same place behind the gateway.
#[tokio::test]
async fn a_redirect_within_the_upstream_stays_within_the_route() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = gateway(&upstream, up);
        let mut exchanges = 0;
        for down in BOTH {
            for (path, location, mapped) in [
                ("/v1/models", "$URL/v1/models/", "/v1/models/"),
                ("/v1/models", "/v1/models/", "/v1/models/"),
                ("/v1/models", "$URL/v1/models/?a=b&c=%2F", "/v1/models/?a=b&c=%2F"),
                ("/v1/models", "/v1?x", "/v1?x"),
                ("/api/models", "$URL/base/v1/models/?a=b", "/api/models/?a=b"),
                ("/api/models", "/base/v1/models/", "/api/models/"),
                ("/api/models", "/base/v1?x=/base/v1", "/api?x=/base/v1"),
                ("/all/models", "$URL/base/models/", "/all/models/"),
                ("/all/models", "/base/v1/x", "/all/v1/x"),
            ] {
                for status in [301, 302, 303, 307, 308, 201] {
                    let answer = answered(&upstream, &gateway, (down, path), (status, location)).await;
                    let at = format!("{up:?} {down:?} {path} {location}: {answer:?}");
                    assert_eq!((answer.status.as_u16(), answer.text()), (status, "{}"), "{at}");
                    assert_eq!(answer.headers["location"], mapped, "{at}");
                    exchanges += 1;
                }
            }
        }
        gateway.finish(exchanges).await;
    }
}

/// Places that the route does not lead to.
const ELSEWHERE: [(&str, &str); 10] = [
    ("/v1/models", "https://elsewhere.example/v1/models"),
    ("/v1/models", "//elsewhere.example/v1/models"),
    ("/v1/models", "https://$HOST/v1/models"),
    ("/v1/models", "http://elsewhere.example@$HOST.example/v1/models"),
    ("/v1/models", "$URL.example/v1/models"),
    ("/api/models", "/v1/models"),
    ("/api/models", "$URL/base/v2/models"),
    ("/api/models", "/base/v1x/models"),
    ("/api/models", "/base/v1/../../admin"),
    ("/all/models", "/based/models"),
];

#[tokio::test]
async fn a_redirect_elsewhere_is_not_passed_on() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = gateway(&upstream, up);
        let mut exchanges = 0;
        for down in BOTH {
            for (path, location) in ELSEWHERE {
                for status in [301, 302, 303, 307, 308] {
                    let answer = answered(&upstream, &gateway, (down, path), (status, location)).await;
                    let at = format!("{up:?} {down:?} {path} {location}: {answer:?}");
                    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{at}");
                    assert_eq!(answer.code(), "upstream_invalid", "{at}");
                    assert!(!answer.headers.contains_key("location"), "{at}");
                    assert_eq!(gateway.log.line_of(&answer).await["error"], "upstream_invalid");
                    exchanges += 1;
                }
            }
        }
        gateway.finish(exchanges).await;
    }
}

/// Where nobody is sent anywhere, the answer is good without it.
#[tokio::test]
async fn a_new_resource_elsewhere_is_told_without_its_place() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, Http::One);
    for down in BOTH {
        for (path, location) in ELSEWHERE {
            let answer = answered(&upstream, &gateway, (down, path), (201, location)).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (201, "{}"), "{location}: {answer:?}");
            assert!(!answer.headers.contains_key("location"), "{location}: {answer:?}");
        }
    }
    gateway.finish(2 * ELSEWHERE.len()).await;
}
