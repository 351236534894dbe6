//! An address that never answers: a listening socket whose queue is full, so that the kernel drops every further SYN.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use super::harness::safely;

/// A listening socket that nobody accepts from.
pub struct Silence {
    address: SocketAddr,
    _listener: Socket,
    /// What fills its queue.
    _queued: TcpStream,
}

impl Silence {
    /// One on a port of its own.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // Room for one connection: Linux counts up to and including the backlog.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let queued = TcpStream::connect(address).unwrap();
        Self { address, _listener: listener, _queued: queued }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many connections to it are being tried.
    pub async fn wait_for_attempts(&self, count: usize) {
        safely(async {
            while self.attempts() != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Sockets in the state SYN_SENT towards it (proc(5), `/proc/net/tcp`).
    fn attempts(&self) -> usize {
        let towards = format!(":{:04X}", self.address.port());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter(|fields| fields[2].ends_with(&towards) && fields[3] == "02").count()
    }
}
