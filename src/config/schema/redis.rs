//! `[redis]`

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use super::{Source, listener::pem};
use crate::config::{
    certificate::authorities,
    declare::{
        Context, Declared as _, Keys as _, Kind as _, Secrecy, Shape, described, list, parse_as, secret,
        span, table, text,
    },
    problem::{Complaint, complaint},
    reader::{Node, Table},
    secret::Secret,
    source,
};

/// How long an admission may wait for Redis.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

const SERVERS_HELP: &str = r#"for example: url = "redis://127.0.0.1:6379/0""#;
const ADDRESS_HELP: &str = r#"for example "10.0.0.1:6379""#;
const SHARE_HELP: &str = r#"write "auto", or a number above 0 and up to 1"#;

/// The port of a server whose address does not say one.
const PORT: u16 = 6379;
/// The port of a Sentinel whose address does not say one.
const SENTINEL_PORT: u16 = 26_379;

table! {
    /// `[redis]`: what all gateways that use the same server count together.
    #[derive(Debug, Clone)]
    pub struct Redis(table, context) {
        url = described(Shape::Text("URL that begins with redis:// or rediss://")),
            "The server, where there is one: `redis://HOST:PORT/DATABASE`, or `rediss://…` for TLS. One of `url`, `sentinel` and `cluster` is required.",
            { shipped: r#""redis://127.0.0.1:6379/0""#, since: "0.2.0" };
        sentinel = described(Shape::Table(Sentinel::keys())),
            "The Sentinels that know which server is the master. The gateway follows them.",
            { example: &[r#"{ master = "main", addresses = ["10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"] }"#], since: "0.2.0" };
        cluster = described(Shape::List(Box::new(Shape::Text("host and port")))),
            "Some servers of a Redis Cluster, which know the others.",
            { example: &[r#"["10.0.0.1:6379", "10.0.0.2:6379"]"#], since: "0.2.0" };
        username: Option<Arc<str>> = text("user name", username).optional(),
            "Name of the ACL user.",
            { default: "the default user", example: &[r#""gateway""#], since: "0.2.0" };
        password: Option<Secret> = secret().optional(),
            "Password of the user.",
            { example: &[r#"{ env = "REDIS_PASSWORD" }"#], secrecy: Secrecy::Secret, since: "0.2.0" };
        tls = described(Shape::Table(RedisTls::keys())),
            "TLS to the servers and Sentinels. With `url`, `rediss://` says so, and this table is only for `ca`.",
            { default: "none", example: &[r#"{ ca = "certs/ca.pem" }"#], since: "0.2.0" };
        timeout: Duration = span(TIMEOUTS).or(Duration::from_millis(40)),
            "How long the admission of one request may wait for Redis. After that the request is admitted or refused by local limits, as \
             `fallback_share` says. No request fails because of Redis.",
            { since: "0.2.0" };
        fallback_share = described(Shape::Either(vec![Shape::Choice(vec!["auto"]), Shape::Number(0.0, 1.0)])),
            "The part of each limit that this gateway admits by itself while Redis is away. \"auto\" is 1 divided by the number of gateways that \
             were seen in the last minute before that.",
            { default: r#""auto""#, example: &["0.25"], since: "0.2.0" };
        prefix: Arc<str> = text("word", prefix).or(Arc::from("sluicegate")),
            "How the names of all keys in Redis begin. Gateways with the same prefix count together.",
            { default: r#""sluicegate""#, example: &[r#""sluicegate-test""#], since: "0.2.0" };
    }
    derived {
        /// Where the servers are.
        servers: RedisServers = servers(table, context);
        /// TLS; `None`: connections are not encrypted.
        tls: Option<RedisTls> = tls(table, context);
        /// The part of each limit that is admitted while Redis is away; `None`: by the number of gateways.
        fallback_share: Option<f64> = fallback_share(table);
    }
}

table! {
    /// `sentinel = { … }` of `[redis]`.
    #[derive(Debug, Clone)]
    pub struct Sentinel(table, context) {
        master: Arc<str> = text("name of the master", username).required(r#"for example: master = "main""#),
            "Name of the master, as the Sentinels know it.";
        addresses: Vec<RedisAddress> = list(text("host and port", sentinel_address)).non_empty(ADDRESS_HELP).required(ADDRESS_HELP),
            "Addresses of the Sentinels: all of them, or several.";
        username: Option<Arc<str>> = text("user name", username).optional(),
            "Name of the ACL user at the Sentinels.",
            { default: "the default user" };
        password: Option<Secret> = parse_as(|| Shape::Source(Source::keys()), |node, context| source::secret(node, context.env)).optional(),
            "Password of the user at the Sentinels.",
            { secrecy: Secrecy::Secret };
    }
}

table! {
    /// `tls = { … }` of `[redis]`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RedisTls(table, context) {
        ca = described(pem()),
            "PEM file with the certificate authorities to trust instead of the system's.",
            { default: "the system's root certificates" };
    }
    derived {
        /// PEM, trusted instead of the system's roots.
        ca: Option<Arc<[u8]>> = ca(table, context);
    }
}

/// Where the servers are.
#[derive(Debug, Clone)]
pub enum RedisServers {
    /// One server.
    Single {
        /// Its address.
        address: RedisAddress,
        /// Number of its database.
        database: i64,
    },
    /// The master that these Sentinels name.
    Sentinel(Sentinel),
    /// A cluster that these servers know.
    Cluster(Vec<RedisAddress>),
}

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// Name or IP address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

impl Redis {
    /// Whether both lead to the same counts in the same way, so that a reload changes nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let exposed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        let servers = match (&self.servers, &other.servers) {
            (
                RedisServers::Single { address, database },
                RedisServers::Single { address: other, database: number },
            ) => address == other && database == number,
            (RedisServers::Sentinel(one), RedisServers::Sentinel(other)) => {
                one.master == other.master
                    && one.addresses == other.addresses
                    && one.username == other.username
                    && exposed(&one.password) == exposed(&other.password)
            }
            (RedisServers::Cluster(one), RedisServers::Cluster(other)) => one == other,
            _ => false,
        };
        servers
            && self.username == other.username
            && exposed(&self.password) == exposed(&other.password)
            && self.tls == other.tls
            && self.timeout == other.timeout
            && self.fallback_share == other.fallback_share
            && self.prefix == other.prefix
    }
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.servers {
            RedisServers::Single { address, database } => write!(f, "{address}, database {database}"),
            RedisServers::Sentinel(sentinel) => {
                write!(f, "master {} of {} Sentinels", sentinel.master, sentinel.addresses.len())
            }
            RedisServers::Cluster(_) => f.write_str("a cluster"),
        }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn servers(table: &Table<'_>, context: &Context<'_>) -> Option<RedisServers> {
    let written = ["url", "sentinel", "cluster"].map(|key| table.get(key));
    let mut written = written.iter().flatten();
    if let (Some(_), Some(second)) = (written.next(), written.next()) {
        second.fail(complaint("is set too: the servers are named twice", "remove one of the two"));
        return None;
    }
    if let Some(node) = table.get("sentinel") {
        let sentinel =
            Sentinel::read(&node.table(<Sentinel as crate::config::declare::Keys>::NAMES)?, context)?;
        return Some(RedisServers::Sentinel(sentinel));
    }
    if let Some(node) = table.get("cluster") {
        let items = node.some_items(ADDRESS_HELP)?;
        let addresses: Vec<_> = items.iter().map(|item| item.parse(|text| address(text, PORT))).collect();
        return addresses.into_iter().collect::<Option<Vec<_>>>().map(RedisServers::Cluster);
    }
    let node = table.required("url", SERVERS_HELP)?;
    let (address, database, is_encrypted) = node.parse(url)?;
    if let (false, Some(tls)) = (is_encrypted, table.get("tls")) {
        tls.fail(complaint(
            "has no meaning when the URL begins with redis://",
            "write rediss://, or remove `tls`",
        ));
        return None;
    }
    Some(RedisServers::Single { address, database })
}

/// Reads the address, the number of the database, and whether the connection is encrypted.
fn url(text: &str) -> Result<(RedisAddress, i64, bool), Complaint> {
    let (rest, is_encrypted) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return Err(complaint("must begin with redis:// or rediss://", SERVERS_HELP)),
    };
    if rest.contains('@') {
        return Err(complaint(
            "must not have a user name or password",
            r#"write username = "…" and password = { env = "REDIS_PASSWORD" }"#,
        ));
    }
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = match database {
        "" => 0,
        number => number
            .parse::<u16>()
            .map_err(|_| complaint("must end with the number of a database", SERVERS_HELP))?
            .into(),
    };
    Ok((address(server, PORT)?, database, is_encrypted))
}

fn sentinel_address(text: &str) -> Result<RedisAddress, Complaint> {
    address(text, SENTINEL_PORT)
}

fn address(text: &str, port: u16) -> Result<RedisAddress, Complaint> {
    let invalid = || complaint("is not a host and a port", ADDRESS_HELP);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| invalid())?)
        }
        _ => (text, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || port == 0 || !host.bytes().all(plain) {
        return Err(invalid());
    }
    Ok(RedisAddress { host: host.into(), port })
}

fn tls(table: &Table<'_>, context: &Context<'_>) -> Option<Option<RedisTls>> {
    if let Some(node) = table.get("tls") {
        let names = <RedisTls as crate::config::declare::Keys>::NAMES;
        return RedisTls::read(&node.table(names)?, context).map(Some);
    }
    let is_encrypted =
        table.get("url").is_some_and(|node| node.string().is_some_and(|url| url.starts_with("rediss://")));
    Some(is_encrypted.then_some(RedisTls { ca: None }))
}

fn ca(table: &Table<'_>, context: &Context<'_>) -> Option<Option<Arc<[u8]>>> {
    let Some(node) = table.get("ca") else { return Some(None) };
    authorities(&node, context.env)?;
    let loaded = source::path_or_reference(&node, context.env)?;
    Some(Some(Arc::from(loaded.bytes.as_slice())))
}

fn fallback_share(table: &Table<'_>) -> Option<Option<f64>> {
    let Some(node) = table.get("fallback_share") else { return Some(None) };
    if node.is_str("auto") {
        return Some(None);
    }
    share(&node).map(Some)
}

fn share(node: &Node<'_>) -> Option<f64> {
    let number = match node.value.as_float().map(toml::de::DeFloat::as_str) {
        Some(text) => text.parse::<f64>().ok(),
        None => node.value.as_integer().and_then(|whole| whole.as_str().parse::<f64>().ok()),
    };
    let Some(number) = number else { return node.mistyped(r#""auto" or a number"#, SHARE_HELP) };
    if number > 0.0 && number <= 1.0 {
        return Some(number);
    }
    node.fail(complaint("must be above 0 and up to 1", SHARE_HELP));
    None
}

fn username(text: &str) -> Result<Arc<str>, Complaint> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(complaint("must be one word of visible ASCII", "write it as the server knows it"));
    }
    Ok(text.into())
}

fn prefix(text: &str) -> Result<Arc<str>, Complaint> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err(complaint(
            "must be 1 to 64 letters, digits, hyphens, dots, underscores and colons",
            r#"for example "sluicegate""#,
        ));
    }
    Ok(text.into())
}
