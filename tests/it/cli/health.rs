//! `health`, as a container asks it.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
    time::Duration,
};

use super::{
    draining_by,
    process::{Running, sluicegate},
};
use crate::{folder::Folder, harness::GatewayToml};

/// An address that nobody listens on now.
pub fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_ready_gateway_is_healthy_and_one_that_is_gone_is_not() {
    let (folder, admin) = (Folder::new(), free());
    let text = GatewayToml::before("http://127.0.0.1:9", "").to_string();
    let table = format!("{text}\n[admin]\naddress = {admin:?}\ntoken = {{ env = \"ADMIN_TOKEN\" }}\n");
    let file = folder.write("gateway.toml", &table);
    let mut start = super::process::command(super::process::BINARY);
    let mut gateway =
        Running::of(start.args(["--config", &file]).env("ADMIN_TOKEN", "a-token-of-the-operator"));
    gateway.address();
    // Without the token, and whatever became of the rest of the file.
    folder.write("gateway.toml", &table.replace("path =", "paht ="));
    for arguments in [&["--config", &file][..], &["--admin", &admin]] {
        let done = sluicegate(&[&["health"], arguments].concat());
        assert_eq!((done.code, &*done.out, &*done.err), (Some(0), "ready\n", ""));
    }
    gateway.terminate();
    gateway.ended();
    let gone = sluicegate(&["health", "--config", &file]);
    assert_eq!((gone.code, &*gone.out), (Some(1), ""));
    assert!(gone.err.contains(&format!("admin listener {admin} does not answer")), "{}", gone.err);
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready() {
    let folder = Folder::new();
    let admin = free();
    let more = format!("[admin]\naddress = {admin:?}");
    let start = |file: &str| Running::start(&["--config", file]);
    let (mut gateway, upstream, _response, _client) = draining_by(&folder, &more, start).await;
    gateway.terminate();
    gateway.line(|line| line.contains("\"message\":\"drain started\""));
    let done = sluicegate(&["health", "--admin", &admin]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("not ready") && done.err.contains("503 draining"), "{}", done.err);
    upstream.open_gate();
}

#[test]
fn what_does_not_answer_in_time_is_not_healthy() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let asked = thread::spawn(move || {
        let (mut stream, _) = silent.accept().unwrap();
        let mut request = Vec::new();
        // Until the other side gives up.
        let _ = stream.read_to_end(&mut request);
        request
    });
    let done = sluicegate(&["health", "--admin", &address, "--timeout", "200ms"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("does not answer"), "{}", done.err);
    assert!(asked.join().unwrap().starts_with(b"GET /readyz HTTP/1.1\r\n"));
}

/// Each byte comes in time, and the answer does not.
#[test]
fn an_answer_that_drips_is_not_waited_for() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = slow.local_addr().unwrap().to_string();
    let dripping = thread::spawn(move || {
        let (mut stream, _) = slow.accept().unwrap();
        // Until the other side gives up.
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let done = sluicegate(&["health", "--admin", &address, "--timeout", "200ms"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("does not answer: the time of --timeout is over"), "{}", done.err);
    dripping.join().unwrap();
}

#[test]
fn what_is_missing_is_said() {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", &GatewayToml::before("http://127.0.0.1:9", "").to_string());
    let none = sluicegate(&["health", "--config", &file]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("has no [admin] table") && none.err.contains("--admin"), "{}", none.err);
    let file = folder.write("wrong.toml", "[admin]\naddress = \"here\"\n");
    let wrong = sluicegate(&["health", "--config", &file]);
    assert!(wrong.err.contains("admin.address: is not an IP address"), "{}", wrong.err);
}
