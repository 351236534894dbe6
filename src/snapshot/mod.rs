//! Config (+ previous Snapshot) → Snapshot: the compiled, immutable form that requests are served by.
//!
//! Everything that a request needs is looked up here without a lock and without a conversion: routes in the order in which they
//! are tried, keys as the header values that carry them, TLS configurations ready for a handshake. What outlives a
//! configuration (connections' identities, session tickets) is taken over from the previous Snapshot.

mod routes;
mod server_tls;
#[cfg(test)]
mod tests;
mod upstreams;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use thiserror::Error;

use crate::{
    access::{Caller, Callers},
    config::{self, Config},
    policy::SecretScanner,
};

pub use routes::{Miss, Route, RouteTable, Step};
pub use server_tls::{ServerTlsError, Tickets, server_config};
pub use upstreams::{Target, Upstream};

/// Generation N of the configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1.
    pub generation: u64,
    /// The process and its downstream connections.
    pub server: config::Server,
    /// What and how is logged.
    pub log: config::Log,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// Which request goes where.
    pub routes: RouteTable,
    /// Who may ask.
    pub callers: Callers,
    /// Named pools of targets.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// Finds the keys of all upstreams.
    pub upstream_keys: Arc<SecretScanner<'static>>,
    /// What the operator's listener asks for, if anything.
    pub admin_token: Option<config::Secret>,
    /// What was settled when the process started.
    pub fixed: config::Fixed,
    /// What of this configuration takes effect only after a restart.
    pub awaits_restart: Vec<String>,
    /// The file as `/config` shows it.
    pub redacted: serde_json::Value,
    /// The keys of the callers' TLS sessions.
    tickets: Tickets,
}

/// A listener, compiled.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The server's side of TLS; none: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What its certificates are called and when they end.
    pub certificates: Vec<Expiry>,
    /// HTTP/2 by prior knowledge.
    pub h2c: bool,
    /// How the caller's address is learned.
    pub client_address: config::ClientAddress,
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its first DNS name, or the file that it is from.
    pub name: String,
    /// In seconds since 1970.
    pub not_after: i64,
}

/// What keeps a sound configuration from being compiled: rustls or the system's certificate store refuses something.
#[derive(Debug, Error)]
pub enum CompileError {
    /// A listener's TLS.
    #[error("listener {address}: TLS cannot be set up")]
    Listener {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: ServerTlsError,
    },
    /// An upstream's TLS.
    #[error("upstream.{name}: TLS cannot be set up")]
    Upstream {
        /// Which one.
        name: Arc<str>,
        /// Why.
        source: rustls::Error,
    },
    /// An upstream without a target.
    #[error("upstream.{0} has no target")]
    NoTarget(Arc<str>),
    /// No certificate authority is trusted by this system.
    #[error(
        "no trusted certificates were found on this system; install ca-certificates or set `tls.ca` of upstream.{0}"
    )]
    NoRoots(Arc<str>),
}

impl Snapshot {
    /// Compiles `config`, taking over what outlives a configuration from `previous`. Blocks: it may read the system's
    /// certificate store.
    ///
    /// # Errors
    /// [`CompileError`]; `previous` is as it was then.
    pub fn compile(config: Config, previous: Option<&Self>) -> Result<Self, CompileError> {
        let wanted = config::Fixed::of(&config);
        let fixed = previous.map_or_else(|| wanted.clone(), |previous| previous.fixed.clone());
        let awaits_restart = fixed.differences(&wanted);
        let upstream_keys = Arc::new(upstreams::scanner(&config.upstreams, &config.routes));
        let upstreams = upstreams::compile(&config.upstreams, &config.routes, &upstream_keys, previous)?;
        let routes = RouteTable::compile(config.routes, &config.upstreams, &upstreams);
        let mut tickets = previous.map(|previous| Tickets::following(&previous.tickets)).unwrap_or_default();
        let mut listeners = listeners(&config.listeners, &mut tickets)?;
        listeners.extend(still_open(&listeners, previous));
        let admin_token = match previous {
            // Another address, or none, waits for a restart; until then the one that is listened on keeps its token.
            Some(previous) if fixed.admin != wanted.admin => previous.admin_token.clone(),
            _ => config.admin.and_then(|admin| admin.token),
        };
        Ok(Self {
            generation: previous.map_or(1, |previous| previous.generation + 1),
            server: config.server,
            log: config.log,
            listeners,
            routes,
            callers: callers(config.clients, previous),
            upstreams,
            upstream_keys,
            admin_token,
            fixed,
            awaits_restart,
            redacted: config.redacted,
            tickets,
        })
    }
}

#[cfg(test)]
impl Snapshot {
    /// Listeners and nothing behind them.
    pub(crate) fn of_listeners(generation: u64, server: config::Server, listeners: Vec<Listener>) -> Self {
        Self {
            generation,
            server,
            log: config::Log::default(),
            listeners,
            routes: RouteTable::default(),
            callers: Callers::default(),
            upstreams: BTreeMap::new(),
            upstream_keys: Arc::default(),
            admin_token: None,
            fixed: config::Fixed::default(),
            awaits_restart: Vec::new(),
            redacted: serde_json::Value::Null,
            tickets: Tickets::default(),
        }
    }
}

/// Listeners that the file has no more, but whose sockets stay open until a restart: they go on as they were.
fn still_open(written: &[Listener], previous: Option<&Snapshot>) -> Vec<Listener> {
    let known = previous.into_iter().flat_map(|previous| {
        previous.listeners.iter().filter(|listener| previous.fixed.listeners.contains(&listener.address))
    });
    let gone = |listener: &&Listener| written.iter().all(|kept| kept.address != listener.address);
    known.filter(gone).cloned().collect()
}

fn listeners(written: &[config::Listener], tickets: &mut Tickets) -> Result<Vec<Listener>, CompileError> {
    written
        .iter()
        .map(|listener| {
            let address = listener.address;
            let tls = listener.tls.as_ref().map(|tls| server_config(tls, tickets)).transpose();
            Ok(Listener {
                address,
                tls: tls.map_err(|source| CompileError::Listener { address, source })?,
                certificates: listener.tls.iter().flat_map(|tls| &tls.certificates).map(expiry).collect(),
                h2c: listener.h2c,
                client_address: listener.client_address.clone(),
            })
        })
        .collect()
}

fn expiry(certificate: &config::Certificate) -> Expiry {
    let name = certificate.names.first().cloned();
    let name = name.unwrap_or_else(|| certificate.path.display().to_string());
    Expiry { name, not_after: certificate.not_after }
}

/// Compiles the clients. One that has not changed is taken over from `previous`, so that what is known of it by its identity goes on.
fn callers(written: BTreeMap<Arc<str>, config::Client>, previous: Option<&Snapshot>) -> Callers {
    let mut callers = Callers::default();
    for (name, client) in written {
        let keys: Vec<_> = client.keys.iter().map(|key| *key.as_bytes()).collect();
        let compiled = Caller { name, routes: client.routes, models: client.models };
        let known = previous.and_then(|previous| previous.callers.same(&keys, &compiled));
        callers.add(keys, &known.unwrap_or_else(|| Arc::new(compiled)));
    }
    callers
}
