//! The shape of a configuration that was read and checked: names resolved, defaults inherited, secrets and certificates loaded.
//! Nothing after this checks any of it again.
//!
//! One file for each table of `gateway.toml`, with the declaration of its keys (`declare`) and the readers of those
//! values that need more than a general kind.

mod account;
mod azure;
mod client;
mod client_files;
mod cors;
mod defaults;
mod egress;
mod error;
mod group;
mod headers;
mod languages;
mod limit;
mod listener;
mod model;
mod otlp;
mod pricing;
mod redis;
mod root;
mod route;
mod server;
mod source;
mod tags;
mod timeouts;
mod upstream;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::fault::{ErrorRule, Languages};

pub use account::KeyAccount;
pub(crate) use account::UpstreamKey;
pub use azure::{Azure, Deployment};
pub(crate) use client::key_nodes;
pub use client::{Client, OnRevoke};
pub(crate) use client_files::ClientDirectory;
pub use cors::{Cors, PageOrigin};
pub(crate) use defaults::Defaults;
pub use defaults::{
    AskForUsage, Breaker, BreakerKeys, BreakerOverride, Retry, RetryKeys, RetryOverrides, SameCandidate,
    Switch,
};
pub use egress::EgressProxy;
pub(crate) use error::{ErrorTable, error_rule, errors_differ};
pub use group::Group;
pub use headers::{HeaderRules, SetHeader};
pub use limit::{Burst, Each, Exhausted, Limit, Per, TokenWeights};
pub use listener::{Certificate, ClientAddress, Listener, ListenerTls, Network};
pub use model::Model;
pub(crate) use model::alias_nodes;
pub use otlp::{Export, Otlp, Preset, Semconv, Sending};
pub use pricing::{ModelPrices, PriceTier, Pricing, UnknownPrice};
pub use redis::{Redis, RedisAddress, RedisServers, RedisTls, Sentinel};
pub(crate) use root::Root;
pub use route::{Choice, Commit, Delivery, ModelList, ModelTables, ModelUpstreams, OnDisconnect, Route};
pub(crate) use server::address;
pub use server::{Admin, Drain, Log, LogFormat, Server};
pub(crate) use source::Source;
pub use tags::Tag;
pub use timeouts::{TimeoutLimits, TimeoutOverrides, Timeouts};
pub use upstream::{Auth, Balance, HashBy, IncludeUsage, Pool, Target, Upstream, UpstreamTls};

/// One `gateway.toml`, read whole: each table by its name, in the file's terms.
#[derive(Debug)]
pub struct Config {
    /// `[[listener]]`: at least one.
    pub listeners: Vec<Listener>,
    /// `[admin]`: default none, so no admin listener.
    pub admin: Option<Admin>,
    /// `[server]`
    pub server: Server,
    /// `[log]`
    pub log: Log,
    /// `languages` of `[defaults]`: of errors before the route is known.
    pub languages: Languages,
    /// `cors` of `[defaults]`, for errors of requests whose route is not known.
    pub cors: Option<Arc<Cors>>,
    /// `[upstream.NAME]`: at least one.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// `[model.NAME]`
    pub models: BTreeMap<Arc<str>, Model>,
    /// `[route.NAME]`: at least one.
    pub routes: BTreeMap<Arc<str>, Route>,
    /// `[group.NAME]`
    pub groups: BTreeMap<Arc<str>, Group>,
    /// `[limit.NAME]`
    pub limits: BTreeMap<Arc<str>, Limit>,
    /// `[pricing]`: default none, so nothing has a cost.
    pub pricing: Option<Pricing>,
    /// `[redis]`: default none, so each gateway counts by itself.
    pub redis: Option<Redis>,
    /// `limits` of `[defaults]`, which apply to every request.
    pub default_limits: Vec<Arc<str>>,
    /// `[client.NAME]`
    pub clients: BTreeMap<Arc<str>, Client>,
    /// The lines of the `[client.NAME]` tables.
    pub client_lines: BTreeMap<Arc<str>, usize>,
    /// The directory of `[client_files]`: default none.
    pub client_files: Option<PathBuf>,
    /// `[otlp]`: default none, so nothing is exported.
    pub otlp: Option<Box<Otlp>>,
    /// `[[error]]`
    pub errors: Vec<ErrorRule>,
    /// Valid, but probably not intended (a key that has no effect, a certificate that expires soon or has expired).
    pub warnings: Vec<super::Problem>,
    /// What `/config` shows: the file as written, with references to secrets and without secrets.
    pub redacted: serde_json::Value,
}
