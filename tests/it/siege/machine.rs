//! A machine that runs out of something: descriptors, room for the log, names.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sluicegate::simulator::{Head, Script, Step};
use tokio::net::TcpStream;

use crate::{
    cli::process::{BINARY, Running, command},
    folder::Folder,
    harness::{BOTH, CHAT, Client, Gateway, GatewayToml, Http, Keys, chat, post, safely, simulator, whole},
    metrics::scrape::Scrape,
};

/// Few enough to be used up soon, and more than the gateway opens for itself.
const DESCRIPTORS: usize = 64;

/// A gateway.toml whose operator is at 127.0.0.2.
fn configuration(folder: &Folder, url: &str) -> String {
    let toml = GatewayToml::before(url, "")
        .listener("h2c = true")
        .admin_at("127.0.0.2:0")
        .server("threads = 2\nheader_timeout = \"60s\"");
    folder.write("gateway.toml", &toml.to_string())
}

/// A shell that becomes the gateway after `before`, with `redirection`.
fn serve(before: &str, path: &str, redirection: &str) -> Running {
    let line = format!("{before} exec '{BINARY}' serve --config '{path}' {redirection}");
    Running::of(command("sh").args(["-c", &line]))
}

/// EMFILE (accept(2), socket(2)): those who are in are told, those who are not wait, and all is well when there are descriptors again. An
/// upstream that could not be asked is not taken for a bad one.
#[tokio::test]
async fn descriptors_run_out_and_come_back() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let path = configuration(&folder, &upstream.url());
    let mut gateway = serve(&format!("ulimit -n {DESCRIPTORS};"), &path, "");
    let at = gateway.address();
    let request = || post(at, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    // Each takes the connection that its worker may have kept, for as long as it lives.
    let mut streams = Vec::new();
    for _ in 0..2 {
        upstream.queue(Script::new(vec![
            Step::Head(Head::event_stream()),
            Step::Send(": begun\n\n".into()),
            Step::Stall,
        ]));
        let mut client = Client::connect(at, Http::One).await;
        let response = safely(client.send(request())).await.unwrap();
        streams.push((client, response));
    }
    let mut inside = Client::connect(at, Http::One).await;
    let mut crowd = Vec::new();
    for _ in 0..DESCRIPTORS {
        crowd.push(TcpStream::connect(at).await.unwrap());
    }
    gateway.line(|line| line.contains("accepting connections failed"));
    // More often than a circuit would bear.
    for _ in 0..12 {
        let answer = inside.ask(request()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "gateway_overloaded"));
        assert!(answer.text().contains("cannot open another connection"), "{answer:?}");
    }
    let mut waiting = Client::connect(at, Http::One).await;
    drop(crowd);
    for client in [&mut waiting, &mut inside] {
        assert_eq!(client.ask(request()).await.status, 200);
    }
    for down in BOTH {
        assert_eq!(chat(at, down).await.status, 200);
    }
}

/// What a process takes of the machine's memory, in KiB (proc(5), `/proc/PID/smaps_rollup`).
fn memory(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    pss.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Who has left leaves nothing behind: after a few seconds the system has back what their streams took, though nobody calls any more.
#[tokio::test]
async fn memory_is_given_back_when_all_is_quiet() {
    const STREAMS: u64 = 1200;
    let upstream = simulator().await;
    let folder = Folder::new();
    let path = configuration(&folder, &upstream.url());
    let mut gateway = serve("", &path, "");
    let at = gateway.address();
    assert_eq!(chat(at, Http::One).await.status, 200);
    let before = memory(gateway.pid());
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let first = Step::Send("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n".into());
        upstream.queue(Script::new(vec![Step::Head(Head::event_stream()), first, Step::Stall]));
        let mut client = Client::connect(at, Http::One).await;
        let request = post(at, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let response = safely(client.send(request)).await.unwrap();
        streams.push((client, response));
    }
    // A silent stream takes less than 20 KiB, and what the start has used may be given back meanwhile.
    let taken = memory(gateway.pid()).saturating_sub(before);
    assert!(taken > STREAMS * 8, "{taken} KiB for {STREAMS} streams are too few to say anything");
    drop(streams);
    safely(async {
        while memory(gateway.pid()) > before + taken / 4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

/// Where this process listens: its sockets in the state LISTEN (proc(5), `/proc/PID/net/tcp`).
fn listening(pid: u32) -> Vec<SocketAddr> {
    let Ok(own) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let own: Vec<_> = own.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mine = lines.filter(|fields| {
        fields.get(3) == Some(&"0A") && own.contains(&format!("socket:[{}]", fields[9]).into())
    });
    let hex = |digits| u32::from_str_radix(digits, 16).unwrap();
    mine.map(|fields| {
        let (address, port) = fields[1].split_once(':').unwrap();
        // As it lies in memory.
        (hex(address).to_ne_bytes(), u16::try_from(hex(port)).unwrap()).into()
    })
    .collect()
}

/// ENOSPC at every write (full(4)): lines are dropped and counted, and nobody but the log notices.
#[tokio::test]
async fn a_full_disk_takes_the_log_and_nothing_else() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let path = configuration(&folder, &upstream.url());
    let mut gateway = serve("", &path, ">/dev/full");
    let (at, admin) = safely(async {
        loop {
            let listening = listening(gateway.pid());
            let at = |ip: [u8; 4]| listening.iter().copied().find(|address| address.ip() == IpAddr::from(ip));
            if let (Some(listener), Some(admin)) = (at([127, 0, 0, 1]), at([127, 0, 0, 2])) {
                return (listener, admin);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut asked = 0;
    while Scrape::of(admin, "").await.sum("sluicegate_log_lines_dropped_total", &[]) < 10.0 {
        assert!(asked < 1000, "lines that were not written are not counted");
        for down in BOTH {
            let answer = chat(at, down).await;
            assert!(answer.status == 200 && answer.whole, "{answer:?}");
            asked += 1;
        }
    }
    gateway.terminate();
    assert_eq!(gateway.ended().0, Some(0), "it drains as ever");
}

/// A name that nobody has (`invalid` is reserved for that, RFC 6761 §6.4) is one upstream's failure.
#[tokio::test]
async fn a_name_that_is_not_found() {
    let upstream = simulator().await;
    let more = r#"
        [upstream.lost]
        url = "http://nowhere.invalid"
        key = { env = "UPSTREAM_KEY" }
        retry = "off"
        breaker = { failures = 3 }
        [route.lost]
        path = "/v1/lost"
        upstreams = ["lost"]
    "#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more, ..Keys::default() });
    for down in BOTH {
        for time in 0..5 {
            let request = post(gateway.address(), down, "/v1/lost/x").body(whole("{}")).unwrap();
            let answer = crate::harness::send(gateway.address(), down, request).await;
            let told = (answer.status.as_u16(), answer.code());
            let open = down == Http::Two || time >= 3;
            let expected = if open { (503, "upstream_unavailable") } else { (502, "upstream_unreachable") };
            assert_eq!((told.0, told.1.as_str()), expected, "{down:?} {time}");
            assert!(!answer.text().contains("nowhere"), "names are the operator's alone: {answer:?}");
            assert_eq!(chat(gateway.address(), down).await.status, 200, "and the other circuit is closed");
        }
    }
    gateway.finish(20).await;
}
