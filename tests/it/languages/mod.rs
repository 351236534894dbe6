//! Error messages in the client's language.

mod rules;

use http::Request;
use sluicegate::simulator::{Cut, Head};

use super::harness::{
    Answer, BOTH, CHAT, Gateway, GatewayToml, Http, Sent, cut_off, post, request, send, simulator, whole,
};

const BOTH_LANGUAGES: &str = "languages = [\"en\", \"zh\"]";

/// What browsers send by default in a Chinese system.
const CHROME: &str = "zh-CN,zh;q=0.9,en;q=0.8,en-GB;q=0.7,en-US;q=0.6";

fn before(url: &str) -> GatewayToml {
    GatewayToml::before(url, "retry = \"off\"\nbreaker = \"off\"").listener("h2c = true")
}

async fn ask(gateway: &Gateway, http: Http, path: &str, accepted: Option<&str>) -> Answer {
    let mut builder = request(gateway.address(), http, "POST", path);
    if let Some(accepted) = accepted {
        builder = builder.header("accept-language", accepted);
    }
    send(gateway.address(), http, builder.body(whole(CHAT)).unwrap()).await
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_error_is_in_the_clients_language_and_its_code_is_the_same() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&before(&upstream.url()).defaults(BOTH_LANGUAGES));
    let mut exchanges = 0;
    for http in BOTH {
        for (accepted, language) in [
            (Some(CHROME), "zh"),
            (Some("zh-TW"), "zh"),
            (Some("*"), "en"),
            (Some("de, fr;q=0.5"), "en"),
            (Some(";;q=,,\u{e4}"), "en"),
            (None, "en"),
        ] {
            for (path, status, code, chinese) in [
                // The route is not known.
                ("/other", 404, "route_not_found", "此网关没有与 POST /other 匹配的路由"),
                // It is.
                ("/v1/chat/completions", 401, "missing_api_key", "请求中没有 API 密钥"),
            ] {
                let answer = ask(&gateway, http, path, accepted).await;
                exchanges += 1;
                assert_eq!((answer.status.as_u16(), answer.code()), (status, code.to_owned()), "{answer:?}");
                assert_eq!(message(&answer).contains(chinese), language == "zh", "{accepted:?} {answer:?}");
                assert_eq!(header(&answer, "content-language"), Some(language), "{accepted:?}");
                assert_eq!(header(&answer, "vary"), Some("accept-language"));
                assert_eq!(header(&answer, "content-length"), Some(&*answer.body.len().to_string()));
                assert_eq!(header(&answer, "content-type"), Some("application/json"));
                assert!(answer.headers.values().all(|value| value.as_bytes().is_ascii()), "{answer:?}");
            }
        }
    }
    gateway.finish(exchanges).await;
}

#[tokio::test]
async fn without_languages_an_error_is_english_and_does_not_vary() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&before(&upstream.url()));
    let answer = ask(&gateway, Http::One, "/v1/models", Some(CHROME)).await;
    assert!(message(&answer).starts_with("You didn't provide an API key."), "{answer:?}");
    assert_eq!((header(&answer, "content-language"), header(&answer, "vary")), (Some("en"), None));
    gateway.finish(1).await;
}

#[tokio::test]
async fn the_first_language_is_the_default_and_a_route_has_its_own() {
    let upstream = simulator().await;
    let toml = before(&upstream.url())
        .defaults("languages = [\"zh\"]")
        .more("[route.english]\npath = \"/english\"\nupstreams = [\"sim\"]\nlanguages = [\"en\", \"zh\"]");
    let gateway = Gateway::start(&toml);
    for (path, accepted, language, varies) in [
        ("/v1/models", Some("en"), "zh", None),
        ("/v1/models", None, "zh", None),
        ("/english/models", None, "en", Some("accept-language")),
        ("/english/models", Some("zh"), "zh", Some("accept-language")),
    ] {
        let answer = ask(&gateway, Http::One, path, accepted).await;
        assert_eq!(header(&answer, "content-language"), Some(language), "{path} {accepted:?}");
        assert_eq!(header(&answer, "vary"), varies, "{path} {accepted:?}");
    }
    gateway.finish(4).await;
}

#[tokio::test]
async fn anthropics_form_too() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&before(&upstream.url()).defaults(BOTH_LANGUAGES));
    let answer = ask(&gateway, Http::One, "/v1/messages", Some("zh")).await;
    let error = answer.json();
    assert_eq!(error["error"]["type"], "authentication_error");
    assert!(message(&answer).contains("API 密钥"), "{answer:?}");
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_new_configuration_changes_the_languages() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&before(&upstream.url()));
    assert_eq!(header(&ask(&gateway, Http::One, "/v1/x", Some("zh")).await, "content-language"), Some("en"));
    gateway.reload(&before(&upstream.url()).defaults(BOTH_LANGUAGES)).await;
    assert_eq!(header(&ask(&gateway, Http::One, "/v1/x", Some("zh")).await, "content-language"), Some("zh"));
    gateway.finish(2).await;
}

/// The head is out already, so that only the event is in the client's language.
#[tokio::test]
async fn the_error_event_of_a_stream_is_in_the_clients_language() {
    const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    const RESPONSE: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":0,\"delta\":\"Hi\"}\n\n";
    let upstream = simulator().await;
    let gateway = Gateway::start(&before(&upstream.url()).defaults(BOTH_LANGUAGES));
    for (path, event) in [("/v1/chat/completions", EVENT), ("/v1/responses", RESPONSE)] {
        upstream.queue(cut_off(Head::event_stream(), event.as_bytes(), Cut::Close));
        let request: Request<Sent> = post(gateway.address(), Http::One, path)
            .header("accept-language", CHROME)
            .body(whole(r#"{"model":"m","stream":true,"messages":[],"input":"x"}"#))
            .unwrap();
        let answer = send(gateway.address(), Http::One, request).await;
        assert!(answer.text().contains("上游提前结束了响应"), "{answer:?}");
        assert!(answer.text().contains("upstream_truncated"), "{answer:?}");
        assert_eq!(header(&answer, "content-language"), None);
    }
    gateway.finish(2).await;
}
