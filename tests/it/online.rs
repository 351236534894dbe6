//! `check --online` in front of targets that are good, bad, or hard to tell.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use sluicegate::simulator::{Identity, Options, Simulator, Tls};

use crate::{
    cli::process::{Done, sluicegate},
    folder::Folder,
    harness::{GatewayToml, UPSTREAM_KEY},
};

const LIST: &str = r#"{"object":"list","data":[{"id":"gpt-4o-mini","object":"model"}]}"#;
const REFUSAL: &str = r#"{"error":{"message":"Incorrect API key provided: sk-wrong","type":"invalid_request_error","code":"invalid_api_key"}}"#;

/// What a target responds to a request for its models: status line and body. `None`: nothing, ever.
pub type Respond = fn(has_key: bool) -> Option<(&'static str, &'static str)>;

/// A target that responds in this way, and 404 to everything but `GET /v1/models`.
pub fn target(respond: Respond) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, respond));
        }
    });
    address
}

fn serve(mut stream: TcpStream, respond: Respond) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    // A connection carries one request, because the response says that it closes.
    let head: Vec<String> =
        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(request) = head.first() else { return };
    let has_key = head.iter().any(|line| line.to_lowercase().starts_with("authorization:"));
    let found = request.starts_with("GET /v1/models ");
    let response = if found { respond(has_key) } else { Some(("404 Not Found", "<html>not here</html>")) };
    let Some((status, body)) = response else {
        // Until the other side gives up.
        lines.for_each(drop);
        return;
    };
    let length = body.len();
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
}

/// Checks a configuration with one upstream at `url`.
fn check(url: &str, lines: &str, options: &[&str]) -> Done {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", &GatewayToml::new().upstream("main", url, lines).to_string());
    let done = sluicegate(&[&["check", "--config", &file, "--online"], options].concat());
    for text in [&done.out, &done.err] {
        assert!(!text.contains(UPSTREAM_KEY), "a key is shown: {text}");
    }
    done
}

fn said(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, Some(code), "{}{}", done.out, done.err);
    for word in words {
        assert!(done.out.contains(word), "{word}: {}{}", done.out, done.err);
    }
}

#[test]
fn a_key_is_accepted_if_requests_without_it_are_not() {
    let address =
        target(|has_key| Some(if has_key { ("200 OK", LIST) } else { ("401 Unauthorized", REFUSAL) }));
    let done = check(&format!("http://{address}"), "", &[]);
    said(&done, 0, &["resolve", "connect", "key 1    accepted (GET /v1/models: 200"]);
}

#[test]
fn a_refused_key_is_reported_with_status_and_code() {
    let address = target(|_| Some(("401 Unauthorized", REFUSAL)));
    let done = check(&format!("http://{address}"), "", &[]);
    said(&done, 1, &["key 1    REFUSED (GET /v1/models: 401 invalid_api_key"]);
    assert!(!done.out.contains("sk-wrong"), "{}", done.out);
}

/// A restricted key of OpenAI works, and may not list models.
#[test]
fn a_key_that_may_not_list_models_is_not_refused() {
    const SCOPES: &str = r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read.","type":"invalid_request_error"}}"#;
    let restricted = |has_key| Some((if has_key { "403 Forbidden" } else { "401 Unauthorized" }, "{}"));
    for (address, verdict, code) in [
        (target(|_| Some(("401 Unauthorized", SCOPES))), "cannot be told (GET /v1/models: 401", 0),
        (target(restricted), "cannot be told (GET /v1/models: 403", 0),
        (target(|_| Some(("403 Forbidden", "{}"))), "REFUSED (GET /v1/models: 403", 1),
    ] {
        let done = check(&format!("http://{address}"), "", &[]);
        said(&done, code, &[&format!("key 1    {verdict}")]);
    }
}

#[test]
fn an_open_list_says_nothing_about_the_key() {
    let address = target(|_| Some(("200 OK", LIST)));
    let done = check(&format!("http://{address}"), "", &[]);
    said(&done, 0, &["key 1    cannot be told", "but also without a key"]);
}

#[test]
fn a_list_that_is_not_there_says_nothing_about_the_key() {
    let address = target(|_| Some(("404 Not Found", "")));
    said(&check(&format!("http://{address}"), "", &[]), 0, &["cannot be told (GET /v1/models: 404"]);
}

#[test]
fn the_configured_base_path_is_asked() {
    let address = target(|_| Some(("200 OK", LIST)));
    let done = check(&format!("http://{address}/wrong"), "", &[]);
    said(&done, 0, &["cannot be told (GET /wrong/v1/models: 404", "check the path of the base URL"]);
}

#[test]
fn an_unknown_host_is_not_resolved() {
    let done = check("http://no-such-host.invalid", "", &[]);
    said(&done, 1, &["resolve  FAILED"]);
    assert!(!done.out.contains("key 1"), "nothing is said of the key: {}", done.out);
}

#[test]
fn a_slow_target_fails_when_its_time_is_over() {
    let address = target(|_| None);
    let done = check(&format!("http://{address}"), "", &["--timeout", "200ms"]);
    said(&done, 1, &["key 1    FAILED (GET /v1/models: not finished after 0.2 s"]);
}

#[test]
fn a_target_that_needs_no_key_is_asked_without_one() {
    let address = target(|has_key| (!has_key).then_some(("200 OK", LIST)));
    let folder = Folder::new();
    let upstream = format!("url = \"http://{address}\"\nauth = \"none\"");
    let toml = GatewayToml::new().upstream_of("main", upstream).to_string();
    let file = folder.write("gateway.toml", &toml);
    said(&sluicegate(&["check", "--config", &file, "--online"]), 0, &["no key   answers"]);
}

#[test]
fn an_expired_certificate_stops_at_tls() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity =
        Identity::Pem { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
    let tls = Tls { identity, client_ca: None };
    let options = Options { tls: Some(tls), ..Options::default() };
    let simulator = Simulator::spawn_threads(&options, 1).unwrap();
    let folder = Folder::new();
    let authority = folder.write("ca.pem", &certificate.pem());
    let url = format!("https://localhost:{}", simulator.addr().port());
    let done = check(&url, &format!("tls = {{ ca = {authority:?} }}"), &[]);
    said(&done, 1, &["connect", "tls      FAILED", "expired"]);
}

#[test]
fn with_a_model_an_answer_is_streamed_with_each_key() {
    let key = Some(UPSTREAM_KEY.to_owned());
    let options = Options { require_key: key, ..Options::default() };
    let simulator = Simulator::spawn_threads(&options, 1).unwrap();
    let done = check(&simulator.url(), "", &["--model", "gpt-4o-mini", "--json"]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["good"], true);
    let key = &report["targets"][0]["keys"][0];
    assert_eq!((&key["key"], &key["verdict"]), (&1.into(), &"accepted".into()), "{report:#}");
    let stream = &key["stream"];
    assert_eq!(
        (&stream["ok"], &stream["usage"], &stream["complete"]),
        (&true.into(), &true.into(), &true.into())
    );
    let done = check(&simulator.url(), "", &["--model", "missing-model"]);
    said(&done, 1, &["accepted", "stream   FAILED: 404 model_not_found"]);
}

/// A target that repeats the key that it was sent wherever it can.
fn echo(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || repeat(stream, status));
        }
    });
    address
}

fn repeat(mut stream: TcpStream, status: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<String> =
        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let presented = head.iter().find_map(|line| line.split_once("Bearer "));
    let key = presented.map_or("none", |(_, key)| key);
    let error = format!(r#"{{"error":{{"message":"{key}","type":"{key}","code":"{key}","param":"{key}"}}}}"#);
    let body = if status.starts_with('2') { format!(r#"{{"data":[{{"id":"{key}"}}]}}"#) } else { error };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} {key}\r\nlocation: /{key}\r\nwww-authenticate: {key}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
}

/// `check` looks for the key in everything that is printed.
#[test]
fn a_key_that_is_repeated_by_the_target_is_not_shown() {
    let statuses = ["200 OK", "301 Moved", "400 Bad", "401 No", "403 No", "404 No", "429 Wait", "500 Broken"];
    for status in statuses {
        let url = format!("http://{}", echo(status));
        for options in [&[][..], &["--json"], &["--model", "m"], &["--model", "m", "--json"]] {
            let done = check(&url, "", options);
            assert!(
                done.out.contains("127.0.0.1") && done.out.contains(&status[..3]),
                "{status}: {}{}",
                done.out,
                done.err
            );
            assert!(
                !options.contains(&"--json") || serde_json::from_str::<Value>(&done.out).is_ok(),
                "{}",
                done.out
            );
        }
    }
}
