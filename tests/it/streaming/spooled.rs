//! Forms whose model has to be known, and is not known before their end: small ones are held in memory, large ones in a file.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Frame;
use sluicegate::simulator::{Head, Options, Protocols, Script, Simulator, Step};

use super::sha256;
use crate::harness::{
    Answer, BOTH, Client, Gateway, GatewayToml, Http, Sent, authorised, body_of, safely, send, whole,
};

const MIB: usize = 1 << 20;
const PATH: &str = "/v1/audio/transcriptions";

/// A folder for spooled bodies, which has to be empty at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluicegate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A form of this size with the model at its end, and the same with another model.
fn forms(size: usize, model: &str, other: &str) -> [Bytes; 2] {
    let file: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
    [model, other].map(|model| {
        let before = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n";
        let after = "\r\n--b\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\nfalse\r\n--b\r\n\
                     Content-Disposition: form-data; name=\"model\"\r\n\r\n";
        [before.as_bytes(), &file, after.as_bytes(), model.as_bytes(), b"\r\n--b--\r\n"].concat().into()
    })
}

async fn upstream() -> Simulator {
    Simulator::start(Options { protocols: Protocols::Both, ..Options::default() }).await.unwrap()
}

fn toml(upstreams: [&Simulator; 2], folder: &str, leg: Http) -> GatewayToml {
    let http2 = format!("http2 = {}", leg == Http::Two);
    GatewayToml::new()
        .listener("h2c = true")
        .server(format!("spool_above = \"64KiB\"\nspool_directory = \"{folder}\""))
        .defaults("retry = { retries = 3, backoff = \"10ms\", max_backoff = \"20ms\" }\nbreaker = \"off\"")
        .upstream("main", &upstreams[0].url(), &http2)
        .upstream("spare", &upstreams[1].url(), &http2)
}

const OWN_MODELS: &str = "upstreams = [{ upstream = \"main\", model = \"own\" }, { upstream = \"spare\", model = \"the-spare-one\" }]";

fn request(gateway: &Gateway, http: Http, body: Sent) -> Request<Sent> {
    let request = authorised(gateway.address(), http, "POST", PATH);
    request.header("content-type", "multipart/form-data; boundary=b").body(body).unwrap()
}

fn json(status: StatusCode) -> Script {
    Script::new(vec![Step::Head(Head::json(status, 2)), Step::Send("{}".into())])
}

#[tokio::test]
async fn a_large_form_gets_each_candidates_model_and_nothing_else_changes() {
    let folder = Folder::new("candidates");
    let (main, spare) = (upstream().await, upstream().await);
    for leg in BOTH {
        let toml = toml([&main, &spare], folder.0.to_str().unwrap(), leg).route_to(OWN_MODELS);
        let gateway = Gateway::start(&toml);
        for (number, size) in [MIB / 32, MIB / 16 + 3, 2 * MIB + 1].into_iter().enumerate() {
            let [form, own] = forms(size, "whisper-1", "own");
            let [_, other] = forms(size, "whisper-1", "the-spare-one");
            main.queue(json(StatusCode::SERVICE_UNAVAILABLE));
            spare.queue(json(StatusCode::OK));
            // With its length and, every other time, without.
            let http = BOTH[number % 2];
            let answer = if number == 1 {
                let (pieces, body) = body_of();
                let mut client = Client::connect(gateway.address(), http).await;
                let pending = client.begin(request(&gateway, http, body)).await;
                for piece in form.chunks(10_001) {
                    safely(pieces.send(Frame::data(Bytes::copy_from_slice(piece)))).await.unwrap();
                }
                drop(pieces);
                Answer::read(safely(pending).await.unwrap()).await
            } else {
                send(gateway.address(), http, request(&gateway, http, whole(form))).await
            };
            assert_eq!(answer.status, 200, "{size}: {answer:?}");
            let (first, second) = (main.records().pop().unwrap(), spare.records().pop().unwrap());
            assert_eq!((first.body_sha256, second.body_sha256), (sha256(&own), sha256(&other)), "{size}");
            assert_eq!(second.headers["content-length"], other.len().to_string());
            let line = gateway.log.line(number + 1).await;
            assert_eq!(
                (&line["model"], &line["bytes_in"]),
                (&"whisper-1".into(), &forms(size, "whisper-1", "")[0].len().into())
            );
        }
        assert!(folder.is_empty() && gateway.inside().spooled() == 0);
        gateway.finish(3).await;
    }
}

#[tokio::test]
async fn a_client_that_is_limited_to_some_models_is_checked_before_anything_is_sent() {
    let folder = Folder::new("limited");
    let upstreams = [&upstream().await, &upstream().await];
    let toml = toml(upstreams, folder.0.to_str().unwrap(), Http::One).client("models = [\"whisper-1\"]");
    let gateway = Gateway::start(&toml);
    let [allowed, forbidden] = forms(MIB, "whisper-1", "whisper-9");
    let twice = [&forms(MIB, "whisper-1", "")[0][..], b"x"].concat();
    let twice = String::from_utf8_lossy(&twice).replace("name=\"stream\"", "name=\"model\"");
    for (form, status, code) in [
        (forbidden, 403, "model_not_allowed"),
        (allowed.slice(..allowed.len() - 8), 403, "model_required"),
        (Bytes::from(twice.replace("--b--\r\nx", "--b--\r\n")), 400, "invalid_body"),
    ] {
        let answer = send(gateway.address(), BOTH[0], request(&gateway, BOTH[0], whole(form))).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{answer:?}");
    }
    assert_eq!(upstreams[0].records().len(), 0);
    upstreams[0].queue(json(StatusCode::OK));
    let answer = send(gateway.address(), BOTH[1], request(&gateway, BOTH[1], whole(allowed.clone()))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(upstreams[0].records()[0].body_sha256, sha256(&allowed), "unchanged");
    assert!(folder.is_empty() && gateway.inside().spooled() == 0);
}

#[tokio::test]
async fn a_form_for_which_there_is_no_room_is_refused_and_leaves_nothing() {
    let folder = Folder::new("full");
    let upstreams = [&upstream().await, &upstream().await];
    let [form, _] = forms(2 * MIB, "m", "");
    for (directory, server, status, code) in [
        ("/proc/self/no-such-folder", "", 507, "spool_failed"),
        ("/proc/self", "", 507, "spool_failed"),
        (folder.0.to_str().unwrap(), "max_spooled = \"1MiB\"", 503, "gateway_overloaded"),
    ] {
        let gateway =
            Gateway::start(&toml(upstreams, directory, Http::One).server(server).route_to(OWN_MODELS));
        for http in BOTH {
            let answer = send(gateway.address(), http, request(&gateway, http, whole(form.clone()))).await;
            assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{answer:?}");
        }
        let line = gateway.log.line(2).await;
        assert_eq!((&line["who"], &line["phase"]), (&"gateway".into(), &"intake".into()), "{line}");
        if status == 507 {
            assert!(line["cause"].as_str().unwrap().contains(directory), "{line}");
        }
        assert_eq!(gateway.inside().spooled(), 0);
        gateway.holds_nothing().await;
    }
    assert!(folder.is_empty());
    assert_eq!(upstreams[0].records().len(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing() {
    let folder = Folder::new("left");
    let upstreams = [&upstream().await, &upstream().await];
    let toml = toml(upstreams, folder.0.to_str().unwrap(), Http::One).route_to(OWN_MODELS);
    let gateway = Gateway::start(&toml);
    for http in BOTH {
        let (pieces, body) = body_of();
        let mut client = Client::connect(gateway.address(), http).await;
        let pending = client.begin(request(&gateway, http, body)).await;
        let [form, _] = forms(2 * MIB, "m", "");
        for piece in form.chunks(MIB / 4).take(6) {
            safely(pieces.send(Frame::data(Bytes::copy_from_slice(piece)))).await.unwrap();
        }
        safely(async {
            while gateway.inside().spooled() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(pending);
        client.leave().await;
        safely(async {
            while gateway.inside().spooled() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        gateway.holds_nothing().await;
    }
    assert!(folder.is_empty());
    gateway.finish(2).await;
}

#[tokio::test]
async fn without_a_rule_a_form_is_not_kept() {
    let upstreams = [&upstream().await, &upstream().await];
    let toml = toml(upstreams, "/proc/self/no-such-folder", Http::One).route("body_limit = \"1MiB\"");
    let gateway = Gateway::start(&toml);
    let [form, _] = forms(3 * MIB, "m", "");
    for http in BOTH {
        upstreams[0].queue(json(StatusCode::OK));
        let answer = send(gateway.address(), http, request(&gateway, http, whole(form.clone()))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(upstreams[0].records().pop().unwrap().body_sha256, sha256(&form));
    }
}
