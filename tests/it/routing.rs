//! Where a request goes, as the simulator saw it arrive; and what goes nowhere.

use http::Request;
use serde_json::Value;
use sluicegate::simulator::{Framing, Head, Record, Script, Simulator, Step};

use super::harness::{
    BOTH, CLIENT_KEY, Client, Gateway, Http, Keys, Raw, Sent, authorised, post, request, send, simulator,
    whole,
};

/// Several routes before one upstream.
const ROUTES: &str = r#"
    [upstream.based]
    url = "$URL/base/"
    key = { env = "UPSTREAM_KEY" }
    http2 = $HTTP2
    [route.files]
    path = "/v1/files"
    upstreams = ["sim"]
    [route.renamed]
    path = "/openai"
    rewrite = "/v1"
    upstreams = ["sim"]
    [route.based]
    path = "/based"
    rewrite = "/"
    upstreams = ["based"]
    [route.host]
    path = "/v1"
    hosts = ["api.example.com"]
    upstreams = ["sim"]
    [route.reading]
    path = "/methods"
    methods = ["GET", "HEAD"]
    upstreams = ["sim"]
    [route.writing]
    path = "/methods"
    methods = ["POST"]
    upstreams = ["sim"]
"#;

async fn routed(upstream: &Simulator, up: Http) -> Gateway {
    let http2 = (up == Http::Two).to_string();
    let more = ROUTES.replace("$URL", &upstream.url()).replace("$HTTP2", &http2);
    Gateway::before(upstream, up, &more)
}

/// Sends a request that the simulator answers, whatever it is; the route it took, and how it arrived.
async fn arrival(
    upstream: &Simulator,
    gateway: &Gateway,
    down: Http,
    request: Request<Sent>,
) -> (String, Record) {
    upstream
        .queue(Script::new(vec![Step::Head(Head { framing: Framing::Known(0), ..Head::event_stream() })]));
    let answer = send(gateway.address(), down, request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = gateway.log.line_of(&answer).await;
    (line["route"].as_str().unwrap().to_owned(), upstream.records().last().unwrap().clone())
}

#[tokio::test]
async fn the_longest_prefix_wins_and_the_path_is_rewritten() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = routed(&upstream, up).await;
        for down in BOTH {
            for (method, asked, route, arrived) in [
                ("GET", "/v1/models", "main", "/v1/models"),
                ("GET", "/v1", "main", "/v1"),
                ("GET", "/v1/filesystem", "main", "/v1/filesystem"),
                ("GET", "/v1/files/f-1?a=b&c=%2F+d&&e", "files", "/v1/files/f-1?a=b&c=%2F+d&&e"),
                ("GET", "/openai/models?", "renamed", "/v1/models"),
                ("GET", "/openai", "renamed", "/v1"),
                ("GET", "/based/models?x", "based", "/base/models?x"),
                ("GET", "/methods/1", "reading", "/methods/1"),
                ("POST", "/methods/1", "writing", "/methods/1"),
                // One canonical path decides, and goes upstream.
                ("GET", "//v1///models", "main", "/v1/models"),
                ("GET", "/v1/./x/../models", "main", "/v1/models"),
                ("GET", "/v1/x/%2e%2e/files/1", "files", "/v1/files/1"),
                ("GET", "/%76%31/m%6Fdels", "main", "/v1/models"),
                ("GET", "/v1/a%20b/%c3%a9", "main", "/v1/a%20b/%C3%A9"),
                ("GET", "/openai/../v1/models", "main", "/v1/models"),
            ] {
                let request = authorised(gateway.address(), down, method, asked).body(whole("")).unwrap();
                let (by, record) = arrival(&upstream, &gateway, down, request).await;
                assert_eq!(
                    (by.as_str(), record.target.as_str()),
                    (route, arrived),
                    "{method} {asked} {down:?}"
                );
                if up == Http::One {
                    let line = format!("{method} {arrived} HTTP/1.1\r\n");
                    assert!(record.head.starts_with(line.as_bytes()), "{:?}", record.head);
                }
                assert_eq!(record.authority.as_deref(), Some(upstream.addr().to_string().as_str()));
            }
        }
    }
}

#[tokio::test]
async fn a_hosts_own_route_goes_first() {
    let upstream = simulator().await;
    let gateway = routed(&upstream, Http::One).await;
    for (host, route) in
        [("api.example.com", "host"), ("API.Example.com:8443", "host"), ("other.example.com", "main")]
    {
        let mut request =
            authorised(gateway.address(), Http::One, "GET", "/v1/models").body(whole("")).unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(arrival(&upstream, &gateway, Http::One, request).await.0, route, "{host}");
        let mut request =
            authorised(gateway.address(), Http::Two, "GET", "/v1/models").body(whole("")).unwrap();
        *request.uri_mut() = format!("http://{host}/v1/models").parse().unwrap();
        assert_eq!(arrival(&upstream, &gateway, Http::Two, request).await.0, route, "{host}");
    }
}

/// What could be read in more than one way, and what is not for a gateway: refused in words that SDKs understand.
#[tokio::test]
async fn requests_without_one_meaning_are_refused() {
    let upstream = simulator().await;
    let gateway = routed(&upstream, Http::One).await;
    for (exchange, (line, headers, status, code)) in [
        ("GET /v1/..%2f..%2fadmin HTTP/1.1", "", 400, "invalid_path"),
        ("GET /v1/%00 HTTP/1.1", "", 400, "invalid_path"),
        ("GET /v1/../../v1/models HTTP/1.1", "", 400, "invalid_path"),
        ("GET /v1/x%5cy HTTP/1.1", "", 400, "invalid_path"),
        ("GET /v1/%zz HTTP/1.1", "", 400, "invalid_path"),
        ("OPTIONS * HTTP/1.1", "", 501, "method_not_supported"),
        ("TRACE /v1/models HTTP/1.1", "", 501, "method_not_supported"),
        ("CONNECT api.example.com:443 HTTP/1.1", "", 501, "method_not_supported"),
        (
            "GET /v1/realtime HTTP/1.1",
            "connection: upgrade\r\nupgrade: websocket\r\n",
            400,
            "invalid_request",
        ),
        (
            "GET /v1/models HTTP/1.1",
            "connection: upgrade\r\nupgrade: irc/6.9\r\n",
            501,
            "upgrade_not_supported",
        ),
        ("GET /elsewhere HTTP/1.1", "", 404, "route_not_found"),
        ("PUT /methods/1 HTTP/1.1", "", 405, "method_not_allowed"),
        ("GET /v1/models HTTP/1.1", "host: another\r\n", 400, "invalid_request"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.write(format!("{line}\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n{headers}\r\n"))
            .await;
        let answer = raw.until("}}").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
        assert!(
            head.contains("x-request-id: req_") && head.contains("content-type: application/json"),
            "{head}"
        );
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code, "{line}");
        let logged = gateway.log.line(exchange + 1).await;
        assert_eq!((&logged["error"], &logged["status"]), (&code.into(), &status.into()), "{logged}");
    }
    assert!(upstream.records().is_empty());
}

async fn client_of(gateway: &Gateway, forwarded: Option<&str>) -> String {
    let mut raw = Raw::connect(gateway.address()).await;
    let line = forwarded.map(|chain| format!("x-forwarded-for: {chain}\r\n")).unwrap_or_default();
    let before = gateway.log.access().len();
    raw.write(format!("GET /nowhere HTTP/1.1\r\nhost: g\r\n{line}\r\n")).await;
    raw.until("}}").await;
    gateway.log.line(before + 1).await["client"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_the_caller_is_said_to_be() {
    let upstream = simulator().await;
    let trusting = |trusted: &str| {
        let listener = format!("client_address = \"x-forwarded-for\"\ntrusted = [{trusted}]");
        Gateway::with(&upstream, Http::One, Keys { listener: &listener, ..Keys::default() })
    };
    let gateway = trusting("\"127.0.0.0/8\", \"10.0.0.0/8\"");
    for (chain, client) in [
        (None, "127.0.0.1"),
        (Some("203.0.113.9"), "203.0.113.9"),
        (Some("198.51.100.1, 203.0.113.9, 10.1.2.3"), "203.0.113.9"),
        (Some("203.0.113.9, nonsense, 10.1.2.3"), "10.1.2.3"),
        (Some("2001:db8::7"), "2001:db8::7"),
    ] {
        assert_eq!(client_of(&gateway, chain).await, client, "{chain:?}");
    }
    // A stranger's word is not taken; nor anybody's where the listener is not told to.
    let gateway = trusting("\"10.0.0.0/8\"");
    assert_eq!(client_of(&gateway, Some("203.0.113.9")).await, "127.0.0.1");
    let gateway = Gateway::before(&upstream, Http::One, "");
    assert_eq!(client_of(&gateway, Some("203.0.113.9")).await, "127.0.0.1");
}

#[tokio::test]
async fn a_proxy_header_tells_the_caller() {
    let upstream = simulator().await;
    let listener = "client_address = \"proxy-protocol\"\ntrusted = [\"127.0.0.1\"]";
    let gateway = Gateway::with(&upstream, Http::One, Keys { listener, ..Keys::default() });
    let two = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[198, 51, 100, 7, 127, 0, 0, 1, 0x10, 0, 0x20, 0],
    ]
    .concat();
    for (exchange, (header, client)) in [
        (b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n".to_vec(), "2001:db8::7"),
        (two, "198.51.100.7"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.write(header).await;
        raw.write("GET /nowhere HTTP/1.1\r\nhost: g\r\nx-forwarded-for: 192.0.2.1\r\n\r\n").await;
        raw.until("}}").await;
        assert_eq!(gateway.log.line(exchange + 1).await["client"], client);
    }
    // Without one there is no answer at all.
    let mut raw = Raw::connect(gateway.address()).await;
    raw.write("GET /nowhere HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert_eq!(raw.read_to_end().await.0, b"");
    gateway.finish(3).await;
}

/// A caller that is limited to some routes and models.
#[tokio::test]
async fn callers_keep_to_what_they_may() {
    let upstream = simulator().await;
    let client = "routes = [\"main\"]\nmodels = [\"gpt-4o*\", \"small\"]";
    let more = ROUTES.replace("$URL", &upstream.url()).replace("$HTTP2", "false");
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, more: &more, ..Keys::default() });
    let mut exchanges = 0;
    for down in BOTH {
        let at = gateway.address();
        let chat = |body: &'static str| post(at, down, "/v1/chat/completions").body(whole(body)).unwrap();
        let form = |path| {
            let form =
                request(at, down, "POST", path).header("authorization", format!("Bearer {CLIENT_KEY}"));
            form.header("content-type", "multipart/form-data; boundary=x").body(whole("--x--")).unwrap()
        };
        let asked = [
            (chat(r#"{"model":"gpt-4o-mini","messages":[]}"#), 200, ""),
            (chat(r#"{"model":"small","messages":[]}"#), 200, ""),
            (chat(r#"{"model":"smaller","messages":[]}"#), 403, "model_not_allowed"),
            (chat(r#"{"messages":[]}"#), 403, "model_required"),
            (form("/v1/audio/transcriptions"), 403, "model_required"),
            (authorised(at, down, "GET", "/v1/models").body(whole("")).unwrap(), 200, ""),
            (authorised(at, down, "GET", "/v1/files/1").body(whole("")).unwrap(), 403, "route_not_allowed"),
        ];
        for (request, status, code) in asked {
            let answer = send(at, down, request).await;
            assert_eq!(answer.status, status, "{answer:?}");
            exchanges += 1;
            let line = gateway.log.line(exchanges).await;
            assert_eq!(line["caller"], "tester", "{line}");
            if status == 403 {
                assert_eq!((answer.code().as_str(), &line["error"]), (code, &code.into()));
            }
        }
    }
    let allowed = upstream.records();
    assert_eq!(allowed.len(), 6, "nothing else reached the upstream");
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let unread = post(gateway.address(), Http::One, "/v1/chat/completions").header("content-encoding", "br");
    let answer = client.ask(unread.body(whole(r#"{"model":"small"}"#)).unwrap()).await;
    assert_eq!(answer.code(), "model_required", "a body of another coding cannot be read");
}
