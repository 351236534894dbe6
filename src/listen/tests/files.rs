//! Running out of open files, in a process of its own: the limit is the process'.

use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
};

use rlimit::Resource;
use socket2::{Domain, Socket, Type};

use super::support::*;

#[test]
fn running_out_of_open_files_is_survived() {
    let test = std::env::current_exe().unwrap();
    let name = "listen::tests::files::in_a_process_of_its_own";
    let output = Command::new(test).args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "lowers the process' limit of open files; run by the test above"]
async fn in_a_process_of_its_own() {
    let setup = Setup::new(server(), plain());
    let address: SocketAddr = setup.address();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (soft, hard) = rlimit::getrlimit(Resource::NOFILE).unwrap();
    // One past the highest in use: what is free below it is filled up.
    let mut fillers = vec![std::fs::File::open("/dev/null").unwrap()];
    Resource::NOFILE.set(u64::from(highest_open()) + 1, hard).unwrap();
    while let Ok(filler) = std::fs::File::open("/dev/null") {
        fillers.push(filler);
    }
    client.connect(&address.into()).unwrap();
    let counters = setup.listening.counters();
    safely(async {
        while counters.accept_failed.value() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(counters.accepted.value(), 0);
    drop(fillers);
    Resource::NOFILE.set(soft, hard).unwrap();
    let mut tcp = {
        let tcp = TcpStream::from(client);
        tcp.set_nonblocking(true).unwrap();
        tokio::net::TcpStream::from_std(tcp).unwrap()
    };
    send(&mut tcp, get("/hello")).await;
    safely(read_to(&mut tcp, "hello")).await;
    assert_eq!(counters.accept_failed.value(), 1);
}

fn highest_open() -> u32 {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap()).max().unwrap()
}
