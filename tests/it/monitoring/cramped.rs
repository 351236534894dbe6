//! A gateway as a process of its own: it may open few files, and what it writes to its log is lost.

use std::net::{SocketAddr, TcpListener};

use tokio::net::TcpStream;

use crate::{
    cli::process::{BINARY, Running, command},
    folder::Folder,
    harness::{GatewayToml, safely},
};

/// File descriptors that the process may have.
const FILES: usize = 200;

/// Connections that take most of them.
const CONNECTIONS: usize = 150;

/// A gateway that may open few files, writes its log to a device that is full, and is restarted where it was.
pub struct Cramped {
    process: Running,
    connections: Vec<TcpStream>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    file: String,
    _folder: Folder,
}

impl Cramped {
    pub async fn start(upstream: &str) -> Self {
        let folder = Folder::new();
        let [address, admin] =
            [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let toml =
            GatewayToml::before(upstream, "").server("threads = 1\nheader_timeout = \"10m\"").to_string();
        let toml = toml.replacen("127.0.0.1:0", &address.to_string(), 1);
        let file = folder.write("gateway.toml", &format!("{toml}\n[admin]\naddress = \"{admin}\"\n"));
        let process = run(&file);
        let mut cramped = Self { process, connections: Vec::new(), address, admin, file, _folder: folder };
        cramped.connect().await;
        cramped
    }

    /// Ends the process and starts another one at the same addresses.
    pub async fn restart(&mut self) {
        self.connections.clear();
        self.process.signal("KILL");
        self.process = run(&self.file);
        self.connect().await;
    }

    async fn connect(&mut self) {
        while self.connections.len() < CONNECTIONS {
            self.connections.push(connection(self.address).await);
        }
    }
}

/// A connection, as soon as the address listens.
async fn connection(address: SocketAddr) -> TcpStream {
    safely(async {
        loop {
            match TcpStream::connect(address).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

fn run(file: &str) -> Running {
    let line = format!("ulimit -n {FILES} && exec {BINARY} serve --config {file} >/dev/full");
    Running::of(command("sh").args(["-c", &line]))
}
