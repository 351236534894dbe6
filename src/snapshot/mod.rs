//! Config (+ previous Snapshot) → Snapshot: the compiled, immutable form that requests are served by.

mod server_tls;

use std::{net::SocketAddr, sync::Arc};

use crate::config;

pub use server_tls::{ServerTlsError, Tickets, server_config};

/// Generation N of the configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1.
    pub generation: u64,
    /// The process and its downstream connections.
    pub server: config::Server,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
}

/// A listener, compiled.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The server's side of TLS; none: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// HTTP/2 by prior knowledge.
    pub h2c: bool,
    /// How the caller's address is learned.
    pub client_address: config::ClientAddress,
}
