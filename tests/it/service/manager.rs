//! What the service manager is told.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use sluicegate::{
    app::{App, AppError, Service, Surroundings},
    config::{Config, Env, LogFormat, parse},
    telemetry::queue::Queue,
};
use tokio::net::TcpStream;

use super::notify::Notices;
use crate::{
    cli::process::{BINARY, Running, command},
    folder::Folder,
    harness::{LogLines, SAFETY, UPSTREAM_KEY, simulator},
    reload::edits::{Files, Way},
    tls::pki::Authority,
};

/// Rounds of the watchdog in which a wedged worker is seen to be one.
const ROUNDS: usize = 3;

#[tokio::test]
async fn it_hears_of_each_stage() {
    let upstream = simulator().await;
    let mut files = Files::new(&upstream.url(), &Authority::new());
    let folder = Folder::new();
    let notices = Notices::new(&folder);
    let file = files.path();
    let serve = ["serve", "--config", file.to_str().unwrap()];
    let mut watched = command(BINARY);
    watched.args(serve).env("NOTIFY_SOCKET", notices.path()).env("WATCHDOG_USEC", "500000");
    let mut gateway = Running::of(&mut watched);
    let first = notices.next_but_pings();
    assert_eq!(first, ["READY=1", "STATUS=serving, configuration generation 1"]);
    // What is said to be ready is: nobody has to try again.
    let address = gateway.address();
    TcpStream::connect(address).await.unwrap();
    while notices.next() != ["WATCHDOG=1"] {}

    gateway.signal("HUP");
    let reloading = notices.next_but_pings();
    assert_eq!(reloading[0], "RELOADING=1");
    let (name, micros) = reloading[1].split_once('=').unwrap();
    assert!(name == "MONOTONIC_USEC" && micros.parse::<u64>().unwrap() > 0, "{reloading:?}");
    let reloaded = notices.next_but_pings();
    assert_eq!(reloaded, ["READY=1", "STATUS=serving, configuration generation 2"]);

    files.write("broken", Way::InPlace);
    assert_eq!(notices.next_but_pings()[0], "RELOADING=1");
    let refused = notices.next_but_pings();
    assert_eq!(refused[0], "READY=1");
    assert!(refused[1].contains("generation 2") && refused[1].contains("rejected"), "{refused:?}");

    gateway.terminate();
    let stopping = notices.next_but_pings();
    assert_eq!(stopping[0], "STOPPING=1");
    assert_eq!(stopping[1], "STATUS=draining: 0 requests in flight, 60 s at most");
    // The drain's 60 s, and time to end: systemd kills what takes longer than it was told.
    assert_eq!(stopping[2], "EXTEND_TIMEOUT_USEC=75000000");
    assert_eq!(gateway.ended().0, Some(0));
}

/// A gateway in this process, whose service manager is told into a channel.
fn managed(run: impl FnOnce(App) + Send + 'static) -> (mpsc::Receiver<String>, LogLines) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let log = LogLines::default();
    let out = log.clone();
    std::thread::spawn(move || {
        let tell = move |state: String| _ = tell.lock().unwrap().send(state);
        let service = Service::told_by(tell, Some(Duration::from_millis(200)));
        let surroundings = Surroundings { service, ..Surroundings::default() };
        let queue = Queue::start(Box::new(out), 1 << 20, LogFormat::Json);
        run(App::start_with(two_workers(), queue, surroundings).unwrap());
    });
    (told, log)
}

fn two_workers() -> Config {
    let text = r#"
        listener = [{ address = "127.0.0.1:0" }]
        server = { threads = 2 }
        [upstream.none]
        url = "http://127.0.0.1:9"
        key = { env = "UPSTREAM_KEY" }
        [route.main]
        path = "/v1"
        upstreams = ["none"]
        access = "open"
    "#;
    let variable = |name: &str| (name == "UPSTREAM_KEY").then(|| UPSTREAM_KEY.into());
    parse(text, &Env::new(".", &variable)).unwrap()
}

fn wait_for(told: &mpsc::Receiver<String>, wanted: &str) {
    while told.recv_timeout(SAFETY).expect(wanted) != wanted {}
}

#[test]
fn a_wedged_worker_stops_the_pings_until_it_is_free() {
    let (wedge, wedged) = mpsc::channel::<()>();
    let wedged = Arc::new(Mutex::new(wedged));
    let (give, workers) = mpsc::channel();
    let (told, _log) = managed(move |app| {
        give.send(app.workers().clone()).unwrap();
        let _ = app.run_until(async || std::future::pending().await);
    });
    let workers = workers.recv_timeout(SAFETY).unwrap();
    wait_for(&told, "WATCHDOG=1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // One of the two takes the wedge; the other one finds the lock taken and goes on.
    let hold = move |_: &sluicegate::listen::WorkerView| {
        if let Ok(wedged) = wedged.try_lock() {
            let _ = wedged.recv();
        }
    };
    let answers = runtime.block_on(workers.ask(Duration::from_millis(100), hold));
    assert_eq!(answers.iter().filter(|answer| answer.is_some()).count(), 1);
    // A ping that was due before the wedge may still be on its way.
    let silent = || runtime.block_on(workers.unresponsive(Duration::from_millis(200)));
    assert_eq!(silent().len(), 1);
    let _: Vec<_> = told.try_iter().collect();
    (0..ROUNDS).for_each(|_| assert_eq!(silent().len(), 1));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), Vec::<String>::new(), "no ping while one is wedged");
    drop(wedge);
    wait_for(&told, "WATCHDOG=1");
    assert!(silent().is_empty());
}

#[test]
fn a_dead_worker_ends_the_process() {
    let (give, ended) = mpsc::channel();
    let (told, log) = managed(move |app| {
        let workers = app.workers().clone();
        let ended = app.run_until(async move || {
            let first = Mutex::new(Some(()));
            let die = Arc::new(first);
            let question = move |_: &sluicegate::listen::WorkerView| {
                assert!(die.lock().map(|mut one| one.take()).ok().flatten().is_none(), "this worker dies");
            };
            workers.ask(Duration::from_secs(1), question).await;
            std::future::pending::<()>().await;
        });
        give.send(ended).unwrap();
    });
    let ended = ended.recv_timeout(SAFETY).unwrap();
    let Err(AppError::Lost(lost)) = ended else { panic!("{ended:?}") };
    assert!(lost.panicked && lost.name.starts_with("worker-"), "{lost:?}");
    drop(told);
    drop(log);
}
