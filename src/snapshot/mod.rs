//! Compiles a Config (and the previous Snapshot) to a Snapshot: the immutable form from which requests are served.
//!
//! Requests look up everything here without a lock and without a conversion: routes in the order in which they
//! are matched, keys as the header values that carry them, TLS configurations ready for a handshake. State that outlives a
//! configuration (connection identities, session tickets) is taken over from the previous Snapshot.

mod callers;
mod collector;
mod errors;
mod limits;
mod models;
mod paths;
mod pricing;
mod routes;
mod server_tls;
#[cfg(test)]
mod tests;
mod trust;
mod upstreams;
mod withdrawn;

use std::{collections::BTreeMap, net::SocketAddr, ops::Deref, path::PathBuf, sync::Arc};

use thiserror::Error;

use crate::{
    access::{Callers, Seal},
    config::{self, Config},
    limit::PriceBook,
    policy::SecretScanner,
    telemetry::trace::{SpanQueue, Tracer},
};

use callers::CallerGroups;
pub use callers::{ClientConflict, ClientsChanged};
use collector::Exporting;
pub use collector::{Collector, Endpoint};
pub use errors::ErrorTexts;
pub use limits::{LimitIndex, LimitScope, LimitView, LimitedRequest, SubjectView, UnitView};
pub use models::{ModelIndex, ModelRoute};
pub use paths::AskedModel;
use routes::Written;
pub use routes::{Miss, Route, RouteTable, Step};
pub use server_tls::{ServerTlsError, Tickets, server_config};
pub use upstreams::{Target, Upstream};
pub use withdrawn::is_cut;

/// Generation N of the configuration, compiled, with the clients of this moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The known clients and their keys.
    pub callers: Callers,
    /// The limits, and what was used of them.
    pub limits: Arc<LimitIndex>,
    groups: Arc<CallerGroups>,
    compiled: Arc<Compiled>,
}

/// The part of a [`Snapshot`] that only another configuration changes, and no file of a client.
#[derive(Debug)]
pub struct Compiled {
    /// Number of the configuration, from 1.
    pub generation: u64,
    /// Settings of the process and its downstream connections.
    pub server: config::Server,
    /// Log settings.
    pub log: config::Log,
    /// The listeners, in the order of the file.
    pub listeners: Vec<Listener>,
    /// How errors are written for clients.
    pub errors: ErrorTexts,
    /// The web pages that see errors of requests whose route is not known.
    pub cors: Option<Arc<config::Cors>>,
    /// Maps requests to routes.
    pub routes: RouteTable,
    /// What tokens cost; `None`: nothing has a cost.
    pub pricing: Option<Arc<PriceBook>>,
    /// The named pools of targets.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// The models that the configuration names: those of tables for one model, and their aliases.
    pub model_names: Vec<Arc<str>>,
    /// Finds the keys of all upstreams in texts.
    pub upstream_keys: Arc<SecretScanner<'static>>,
    /// Exports exchanges as traces; `None`: none are exported.
    pub tracer: Option<Arc<Tracer>>,
    /// Where traces and metrics are exported to, if they are.
    pub collector: Option<Arc<Collector>>,
    /// The spans that wait for export; the same for the life of the process.
    pub spans: Arc<SpanQueue>,
    /// Makes and opens ephemeral keys; the same for the life of the process.
    pub seal: Arc<Seal>,
    /// The token required by the admin listener, if any.
    pub admin_token: Option<config::Secret>,
    /// Whether operators may act on the live page.
    pub admin_actions: bool,
    /// Warnings about the configuration, one line each.
    pub warnings: Vec<String>,
    /// Settings that were fixed when the process started.
    pub fixed: config::Fixed,
    /// Settings of this configuration that take effect only after a restart.
    pub awaits_restart: Vec<String>,
    /// The configuration file as shown by `/config`.
    pub redacted: serde_json::Value,
    /// The keys of the clients' TLS session tickets.
    tickets: Tickets,
    /// The directory of the clients' files.
    client_directory: Option<PathBuf>,
    /// The lines of the clients' tables in the configuration.
    client_lines: BTreeMap<Arc<str>, usize>,
}

impl Deref for Snapshot {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.compiled
    }
}

/// A listener, compiled.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The server side of TLS; `None` for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The names and expiry times of its certificates.
    pub certificates: Vec<Expiry>,
    /// Whether HTTP/2 by prior knowledge is accepted.
    pub h2c: bool,
    /// The source of the client's address.
    pub client_address: config::ClientAddress,
}

/// The expiry of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The certificate's first DNS name, or the file that contains it.
    pub name: String,
    /// Time of expiry in seconds since 1970.
    pub not_after: i64,
}

/// The reason why a valid configuration cannot be compiled: rustls or the system's certificate store rejects a part of it.
#[derive(Debug, Error)]
pub enum CompileError {
    /// A listener's TLS cannot be set up.
    #[error("listener {address}: TLS cannot be set up")]
    Listener {
        /// The listener or upstream concerned.
        address: SocketAddr,
        /// The cause.
        source: ServerTlsError,
    },
    /// An upstream's TLS cannot be set up.
    #[error("upstream.{name}: TLS cannot be set up")]
    Upstream {
        /// The listener or upstream concerned.
        name: Arc<str>,
        /// The cause.
        source: rustls::Error,
    },
    /// The collector's TLS cannot be set up.
    #[error("otlp: TLS cannot be set up")]
    Collector(#[source] rustls::Error),
    /// The collector needs TLS, and the system trusts no certificate authority.
    #[error(
        "no trusted certificates were found on this system; install ca-certificates or set $OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoRootsForCollector,
    /// Ephemeral keys cannot be sealed.
    #[error("the key that seals ephemeral keys cannot be made")]
    Seal,
    /// An upstream has no target.
    #[error("upstream.{0} has no target")]
    NoTarget(Arc<str>),
    /// The system trusts no certificate authority.
    #[error(
        "no trusted certificates were found on this system; install ca-certificates or set `tls.ca` of upstream.{0}"
    )]
    NoRoots(Arc<str>),
}

impl Snapshot {
    /// Compiles `config`, and takes over the state that outlives a configuration from `previous`. Blocks: it may read the
    /// system's certificate store.
    ///
    /// # Errors
    /// [`CompileError`]; `previous` is unchanged then.
    pub fn compile(config: Config, previous: Option<&Self>) -> Result<Self, CompileError> {
        let wanted = config::Fixed::of(&config);
        let fixed = previous.map_or_else(|| wanted.clone(), |previous| previous.fixed.clone());
        let awaits_restart = fixed.differences(&wanted);
        let errors = ErrorTexts::of(&config);
        let client_directory = config.client_files.clone();
        let keeps_files = previous.is_some_and(|previous| previous.client_directory == client_directory);
        let groups = CallerGroups::of(&config.groups);
        let callers = callers::compile(config.clients.clone(), &groups, previous, keeps_files);
        let limits = LimitIndex::compile(&config, &callers, previous);
        let upstream_keys =
            Arc::new(upstreams::scanner(&config.upstreams, &config.routes, config.otlp.as_deref()));
        let pricing = pricing::compile(&config);
        let written =
            Written { routes: &config.routes, models: &config.models, upstreams: &config.upstreams };
        let upstreams = upstreams::compile(&written, &upstream_keys, previous)?;
        let routes = RouteTable::compile(&written, &upstreams);
        let exporting = Exporting::compile(config.otlp.as_deref(), &config.routes, &upstreams, previous)?;
        let mut tickets = previous.map(|previous| Tickets::following(&previous.tickets)).unwrap_or_default();
        let mut listeners = listeners(&config.listeners, &mut tickets)?;
        listeners.extend(still_open(&listeners, previous));
        let seal = match previous {
            Some(previous) => previous.seal.clone(),
            None => Arc::new(seal(config.server.seal_key.as_ref()).map_err(|_| CompileError::Seal)?),
        };
        let admin_actions = config.admin.as_ref().is_some_and(|admin| admin.actions);
        let warnings = config.warnings.iter().map(line_of).collect();
        let admin_token = match previous {
            // A changed or removed address takes effect after a restart; until then the open listener keeps its token.
            Some(previous) if fixed.admin != wanted.admin => previous.admin_token.clone(),
            _ => config.admin.and_then(|admin| admin.token),
        };
        let compiled = Compiled {
            generation: previous.map_or(1, |previous| previous.generation + 1),
            server: config.server,
            log: config.log,
            listeners,
            errors,
            cors: config.cors,
            routes,
            pricing,
            upstreams,
            model_names: model_names(&config.models),
            upstream_keys,
            tracer: exporting.tracer,
            collector: exporting.collector,
            spans: exporting.spans,
            seal,
            admin_actions: admin_actions && admin_token.is_some(),
            admin_token,
            warnings,
            fixed,
            awaits_restart,
            redacted: config.redacted,
            tickets,
            client_directory,
            client_lines: config.client_lines,
        };
        Ok(Self { callers, limits: Arc::new(limits), groups: Arc::new(groups), compiled: Arc::new(compiled) })
    }

    /// Another snapshot with the same parts.
    fn share(&self) -> Self {
        Self {
            callers: self.callers.clone(),
            limits: self.limits.clone(),
            groups: self.groups.clone(),
            compiled: self.compiled.clone(),
        }
    }
}

#[cfg(test)]
impl Snapshot {
    /// Creates a snapshot of listeners only, without routes.
    pub(crate) fn of_listeners(generation: u64, server: config::Server, listeners: Vec<Listener>) -> Self {
        let compiled = Compiled {
            generation,
            server,
            log: config::Log::default(),
            listeners,
            errors: ErrorTexts::default(),
            cors: None,
            routes: RouteTable::default(),
            pricing: None,
            upstreams: BTreeMap::new(),
            model_names: Vec::new(),
            upstream_keys: Arc::default(),
            tracer: None,
            collector: None,
            spans: Arc::default(),
            seal: Arc::new(seal(None).unwrap()),
            admin_token: None,
            admin_actions: false,
            warnings: Vec::new(),
            fixed: config::Fixed::default(),
            awaits_restart: Vec::new(),
            redacted: serde_json::Value::Null,
            tickets: Tickets::default(),
            client_directory: None,
            client_lines: BTreeMap::new(),
        };
        Self {
            callers: Callers::default(),
            limits: Arc::default(),
            groups: Arc::default(),
            compiled: Arc::new(compiled),
        }
    }
}

/// A warning about the configuration, with its place in the file.
fn line_of(warning: &config::Problem) -> String {
    let place = if warning.line > 0 { format!("line {}: ", warning.line) } else { String::new() };
    let colon = if warning.path.is_empty() { "" } else { ": " };
    format!("{place}{}{colon}{}", warning.path, warning.message)
}

fn seal(key: Option<&config::Secret>) -> Result<Seal, aws_lc_rs::error::Unspecified> {
    key.map_or_else(Seal::random, |key| Seal::new(key.expose().as_bytes()))
}

/// Returns listeners that were removed from the file, but whose sockets stay open until a restart. They keep their settings.
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

fn model_names(tables: &BTreeMap<Arc<str>, config::Model>) -> Vec<Arc<str>> {
    let is_one = |name: &&Arc<str>| !name.ends_with('*');
    let own = tables.keys().filter(is_one);
    own.chain(tables.values().flat_map(|table| &table.aliases)).cloned().collect()
}
