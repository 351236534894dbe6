//! The `results_url` of Anthropic's batches leads back to the gateway, and everything else of a batch object stays as it is.

use http::{Request, StatusCode};
use sluicegate::simulator::{Head, Script, Simulator, Step};

use crate::harness::{
    Answer, BOTH, CLIENT_KEY, Gateway, GatewayToml, Http, Sent, authorised, send, simulator, whole,
};

const RESULTS: &str = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results";

fn gateway(upstream: &Simulator, listener: &str, server: &str) -> Gateway {
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\"")
        .listener("h2c = true")
        .listener(listener)
        .server(server)
        .more("[route.claude]\npath = \"/claude/v1\"\nrewrite = \"/v1\"\nupstreams = [\"sim\"]");
    Gateway::start(&toml)
}

fn request(gateway: &Gateway, http: Http, method: &str, path: &str) -> Request<Sent> {
    authorised(gateway.address(), http, method, path).body(whole("")).unwrap()
}

async fn answered(gateway: &Gateway, upstream: &Simulator, request: Request<Sent>, body: &str) -> Answer {
    let head = Head::json(StatusCode::OK, body.len());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(body.to_owned().into())]));
    let http = if request.uri().authority().is_some() { Http::Two } else { Http::One };
    let answer = send(gateway.address(), http, request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[tokio::test]
async fn a_batch_and_a_list_lead_back_to_where_the_client_asked() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "", "");
    let here = |base: &str| format!("http://{}{base}/messages/batches/msgbatch_1/results", gateway.address());
    let mut turn = 0;
    for base in ["/v1", "/claude/v1"] {
        for (method, path) in [
            ("POST", "/messages/batches"),
            ("GET", "/messages/batches"),
            ("GET", "/messages/batches/msgbatch_1"),
            ("POST", "/messages/batches/msgbatch_1/cancel"),
            ("GET", "/messages/batches?limit=2&beta=true"),
        ] {
            for body in [
                format!(
                    "{{ \"id\" : \"msgbatch_1\",\n\"results_url\": \"{RESULTS}\" , \"x\":[1.0e2,\"\\u00e9\"]}} "
                ),
                format!(
                    "{{\"data\":[{{\"results_url\":\"{RESULTS}\"}},{{\"results_url\":null}}],\"has_more\":false}}"
                ),
            ] {
                turn += 1;
                let request = request(&gateway, BOTH[turn % 2], method, &format!("{base}{path}"));
                let answer = answered(&gateway, &upstream, request, &body).await;
                assert_eq!(answer.text(), body.replace(RESULTS, &here(base)));
                assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
            }
        }
    }
    // The place that it names is reached.
    let results = request(&gateway, BOTH[0], "GET", "/claude/v1/messages/batches/msgbatch_1/results");
    let lines = format!("{{\"custom_id\":\"a\",\"note\":\"{RESULTS}\"}}\n");
    assert_eq!(answered(&gateway, &upstream, results, &lines).await.text(), lines, "as it is");
    let record = upstream.records().pop().unwrap();
    assert_eq!(record.target, "/v1/messages/batches/msgbatch_1/results");
    gateway.holds_nothing().await;
}

#[tokio::test]
async fn what_is_no_batch_or_too_large_passes_as_it_is() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "", "");
    let large = format!("{{\"results_url\":\"{RESULTS}\",\"x\":\"{}\"}}", "x".repeat(3 << 20));
    for (path, body) in [
        ("/v1/messages/batches/msgbatch_1", large),
        ("/v1/messages/batches/msgbatch_1", format!("[\"{RESULTS}\"]")),
        ("/v1/messages/batches/msgbatch_1", "{\"results_url\":\"https://elsewhere.example/results\"}".into()),
        ("/v1/messages/batches/msgbatch_1", "{\"results_url\"".into()),
        ("/v1/batches/batch_1", format!("{{\"results_url\":\"{RESULTS}\"}}")),
    ] {
        let answer = answered(&gateway, &upstream, request(&gateway, BOTH[0], "GET", path), &body).await;
        assert!(answer.text() == body, "{path}");
    }
    gateway.holds_nothing().await;
}

/// Which headers decide is the word of a trusted proxy, or of the configuration.
#[tokio::test]
async fn a_proxy_before_the_gateway_may_name_scheme_and_host() {
    let upstream = simulator().await;
    let body = format!("{{\"results_url\":\"{RESULTS}\"}}");
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "llm.example.com")];
    let trusts = "client_address = \"x-forwarded-for\"\ntrusted = [\"127.0.0.1/32\"]";
    for (listener, server, expected) in [
        ("", "", "http://gateway.test:8080"),
        (trusts, "", "https://llm.example.com"),
        ("", "public_url = \"https://public.example:444\"", "https://public.example:444"),
        (trusts, "public_url = \"https://public.example:444/\"", "https://public.example:444"),
    ] {
        let gateway = gateway(&upstream, listener, server);
        let mut request = Request::get("/v1/messages/batches/msgbatch_1")
            .header("host", "gateway.test:8080")
            .header("x-api-key", CLIENT_KEY);
        for (name, value) in forwarded {
            request = request.header(name, value);
        }
        let answer = answered(&gateway, &upstream, request.body(whole("")).unwrap(), &body).await;
        let url = format!("{expected}/v1/messages/batches/msgbatch_1/results");
        assert_eq!(answer.json()["results_url"], url, "{listener} {server}");
    }
}
