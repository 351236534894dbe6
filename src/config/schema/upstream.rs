//! `[upstream.NAME]`

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Uri};
use rustls::{RootCertStore, pki_types::ServerName, sign::CertifiedKey};

use super::{
    Azure, Breaker, EgressProxy, KeyAccount, Retry, SetHeader, Timeouts, UpstreamKey,
    account::{self, account_name},
    azure,
    defaults::{breaker, breaker_key, heartbeat, retry, retry_key, timeout, timeout_key},
    egress::{self, egress},
    headers::values,
    listener::pem,
    timeouts::SPANS,
};
use crate::config::{
    certificate::{authorities, chain_and_key},
    declare::{
        Context, Declared, Inheritance, Keys, Kind, Or, ParseAs, Secrecy, Shape, choice, count,
        defaults_table, described, flag, keys, nested, parse_as, section, span, table, text,
    },
    headers,
    problem::{Complaint, complaint},
    reader::{Node, Table},
    secret::Secret,
    source::upstream_key,
    url,
};
use crate::openai::base_of_endpoint;

/// What an upstream inherits.
const INHERITED: &str = "what `[defaults]` says";

table! {
    /// `[upstream.NAME]`: a named pool of targets.
    #[derive(Debug, Clone)]
    pub struct Upstream(table, context) {
        url = described(url_shape()),
            "Base URL of the provider: http or https, no query, no user info. Its path is put before the path of each request.",
            { default: "required, unless `targets` is set", shipped: r#""https://api.openai.com""# };
        targets = described(Shape::List(Box::new(Shape::Table(TargetTable::keys())))),
            "Several base URLs in place of `url`, among which requests are balanced.",
            { example: &[r#"[{ url = "https://eu.api.openai.com", weight = 2 }, { url = "https://us.api.openai.com", weight = 1 }]"#] };
        key = described(Shape::Source(UpstreamKey::keys())),
            "Where the provider's key is to be read from. `account` is explained at `keys`.",
            { default: "required, unless `keys` is set or `auth` is \"none\"", shipped: r#"{ env = "OPENAI_API_KEY" }"#,
              secrecy: Secrecy::Secret };
        keys = described(Shape::List(Box::new(Shape::Source(UpstreamKey::keys())))),
            "Several keys in place of `key`. They are used in turn; a key that the provider rejects or limits is skipped for a while. Keys with \
             the same `account` know the same files, responses, batches and other things that the provider keeps, in whatever upstream they are; \
             without `account`, a key is an account of its own. A request with the id of such a thing goes to its account only.",
            { example: &[r#"[{ file = "first.key", account = "main" }, { credential = "second", account = "main" }]"#], secrecy: Secrecy::Secret };
        auth = auth_key(),
            "How the key is sent: as `Authorization: Bearer KEY`, alone in another header, or not at all. With `azure`, the default is \
             the header `api-key`.",
            { example: &[r#"{ header = "api-key" }"#] };
        azure: Option<Azure> = nested::<Azure>().optional(),
            "For the deployment paths of an Azure OpenAI resource: requests with OpenAI's paths (`/v1/chat/completions`) get those of Azure \
             (`/openai/deployments/NAME/chat/completions?api-version=…`). `url` is the resource's endpoint, without a path. Azure's newer \
             API, whose base URL ends with `/openai/v1`, has OpenAI's paths and needs no such table.",
            { example: &[r#"{ api_version = "2024-10-21", deployment = "model" }"#], since: "0.2.0" };
        headers: Vec<SetHeader> = values().or(Vec::new()),
            "Headers to set on each request to the upstream. A value may be a secret that is read from elsewhere: { env = \"NAME\" }, \
             { file = \"path\" } or { credential = \"name\" }. Responses are searched for it as for a key.",
            { default: "none",
              example: &[r#"{ openai-organization = "org-example", cf-aig-authorization = { env = "CF_AIG_AUTHORIZATION" } }"#], secrecy: Secrecy::Headers };
        include_usage: IncludeUsage =
            choice(&[("accepts", IncludeUsage::Accepts), ("refuses", IncludeUsage::Refuses)]).or(IncludeUsage::Accepts),
            "Whether the upstream accepts `stream_options.include_usage`, which the gateway adds to requests on routes with \
             `usage = \"always\"`. With \"refuses\", it never adds the member for this upstream.",
            { example: &["\"refuses\""], since: "0.2.0" };
        http2: bool = flag().or(false),
            "Whether to use HTTP/2: negotiated by ALPN over https, assumed (prior knowledge) over http. WebSocket connections are opened \
             over HTTP/1.1 all the same, each counted in `max_connections`; over http the server has to speak HTTP/1.1 too for them.";
        tls: UpstreamTls = nested::<UpstreamTls>().or(UpstreamTls::default()),
            "TLS to the upstream.",
            { default: "the system's root certificates, no client certificate",
              example: &[r#"{ ca = "certs/ca.pem", certificate = "certs/server.pem", key = "certs/server.key", server_name = "api.example.com" }"#] };
        proxy = described(egress::shape()).or("\"off\""),
            "HTTP CONNECT proxy on the way to the upstream: its URL, or \"env\" for the variables HTTPS_PROXY (HTTP_PROXY for http \
             targets) and NO_PROXY.",
            { example: &[r#"{ url = "http://proxy:3128", credentials = { env = "PROXY_CREDENTIALS" } }"#] };
        pool: Pool = section::<Pool>(),
            "Idle connections to each target, kept by each worker.";
        balance: Balance = parse_as(balance_shape, balance).written_as("\"least_pending\"").or(Balance::LeastPending),
            "Which target gets a request: the one with the fewest pending requests for its weight, each in turn, or always the same one \
             for the same hash. A hash is taken of the client's name (\"caller\"), of the beginning of the prompt (\"prompt\"), or of a \
             request header.",
            { example: &[r#"{ hash = "prompt" }"#, r#"{ hash = { header = "x-session" } }"#] };
        max_pending: Option<usize> = count::<usize>(1..=1_000_000).optional(),
            "Maximum number of concurrent requests to one target, in the whole process. Further requests wait in the order in which \
             they came, as long as `retry` allows.",
            { default: "no limit", example: &["100"] };
        max_connections: Option<usize> = count::<usize>(1..=1_000_000).optional(),
            "Maximum number of connections to one target, in the whole process, idle ones included. A request that finds no free one \
             waits for up to `timeout.connect`. With `http2`, use at least one per worker thread.",
            { default: "no limit", example: &["100"] };
        timeout = timeout_key(), "Timeouts of requests to this upstream.",
            { default: INHERITED, example: &[r#"{ connect = "2s" }"#], inheritance: Inheritance::Overrides };
        retry = retry_key(), "Retries of requests to this upstream.",
            { default: INHERITED, example: &["{ retries = 1 }"], inheritance: Inheritance::Overrides };
        breaker = breaker_key(), "Circuit breaker of this upstream's targets.",
            { default: INHERITED, example: &["\"off\""], inheritance: Inheritance::Overrides };
        heartbeat = heartbeat(), "Comments in event streams of this upstream.",
            { default: INHERITED, example: &["\"30s\""], inheritance: Inheritance::Overrides };
    }
    derived {
        /// How the key is sent.
        auth: Auth = Some(auth_key().read_written(table, "auth", context).unwrap_or_else(|| {
            azure::default_auth(azure.as_ref().and_then(Option::as_ref))
        }));
        /// Base URLs with their weights, from `url` or `targets`; at least one.
        targets: Vec<Target> = targets(table);
        /// Keys, from `key` or `keys`; none only if `auth` is "none".
        keys: Vec<Secret> = keys(table, auth.as_ref(), context);
        /// The account of each key.
        key_accounts: Vec<KeyAccount> = key_accounts(table, auth.as_ref());
        /// A proxy on the way, from `proxy`; `None`: "off".
        proxy: Option<EgressProxy> = proxy(table, targets.as_deref(), context);
        /// Timeouts, those of `[defaults]` included.
        timeout: Timeouts = Some(timeout(table, context).over(context.defaults.timeout));
        /// Retries, those of `[defaults]` included.
        retry: Retry = Some(retry(table, context, Some(context.defaults.retry)).over(context.defaults.retry));
        /// Circuit breaker, that of `[defaults]` included; `None`: "off".
        breaker: Option<Breaker> = Some(breaker(table, context).over(context.defaults.breaker));
        /// Silence in an event stream after which the client gets a comment, that of `[defaults]` included; `None`: "off".
        heartbeat: Option<Duration> =
            Some(heartbeat().read_written(table, "heartbeat", context).unwrap_or(context.defaults.heartbeat));
    }
    check {
        {
            azure::base_is_a_resource(table, targets.as_deref());
            accounts_are_clear(table, targets.as_deref(), key_accounts.as_deref());
            key_header_is_free(table, auth.as_ref(), headers.as_deref());
            tls_has_an_effect(table, targets.as_deref());
            secrets_have_tls(table, targets.as_deref(), auth.as_ref(), headers.as_deref());
        }
    }
}

/// Whether an upstream accepts `stream_options.include_usage` from the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IncludeUsage {
    /// It does, unless its responses say otherwise.
    #[default]
    Accepts,
    /// It does not: the member is never added.
    Refuses,
}

/// Which of an upstream's targets gets a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Balance {
    /// The one with the fewest pending requests for its weight.
    #[default]
    LeastPending,
    /// Each in turn, by weight.
    RoundRobin,
    /// Always the same one for the same value, while it is available.
    Hash(HashBy),
}

/// The value whose hash selects a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// `"caller"`: the client; on an open route the client's address.
    Caller,
    /// `"prompt"`: the beginning of the prompt, so that the upstream's prompt cache is used.
    Prompt,
    /// `{ header = "x-session" }`: the value of that header; without it, the client.
    Header(HeaderName),
}

/// One base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host, port and base path (no trailing slash kept: "" or "/x").
    pub url: Uri,
    /// `weight = 1`: its share of requests; 1 to 1000.
    pub weight: u32,
    /// `account = "eu"`: what is kept there is known to targets and keys of this account only; `None`: to the account of the key.
    pub account: Option<Arc<str>>,
}

/// How the upstream expects its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key alone in this header.
    Header(HeaderName),
    /// No key is sent.
    None,
}

keys! {
    /// An entry of `targets`.
    pub(crate) struct TargetTable {
        url = described(url_shape()).required(), "Base URL, as in `url` of the upstream.";
        weight = count::<u32>(1..=1000).or(1), "Share of requests relative to the other targets.";
        account = text("name of an account", account_name).or("".into()),
            "Account in place of that of the key, for a target that keeps files, responses and the like for itself, as each of several \
             self-hosted servers does.",
            { default: "the account of the key", since: "0.2.0" };
    }
}

table! {
    /// `auth = { … }`
    pub(crate) struct AuthTable(table, context) {
        header: HeaderName = text("header name", headers::name).required(r#"for example: auth = { header = "api-key" }"#),
            "Header that carries the key.";
    }
}

keys! {
    /// `balance = { … }`
    pub(crate) struct BalanceTable {
        hash = described(Shape::Either(vec![Shape::Choice(vec!["caller", "prompt"]), Shape::Table(HashTable::keys())])).required(),
            "What is hashed.";
    }
}

table! {
    /// `hash = { … }`
    pub(crate) struct HashTable(table, context) {
        header: HeaderName = text("header name", headers::name).required(BALANCE_HELP), "Request header that is hashed.";
    }
}

table! {
    /// `tls = { … }` of an upstream.
    #[derive(Debug, Clone, Default)]
    pub struct UpstreamTls(table, context) {
        ca = described(pem()),
            "PEM file with the certificate authorities to trust instead of the system's.",
            { default: "the system's root certificates" };
        certificate = described(pem()),
            "PEM file with a client certificate, presented when the upstream asks for one. Requires `key`.";
        key = described(pem()), "PEM file with the private key of `certificate`.", { secrecy: Secrecy::Secret };
        server_name = described(Shape::Text("DNS name or IP address")),
            "Name that is expected in the upstream's certificate and sent as SNI.",
            { default: "the host of the URL" };
    }
    derived {
        /// Trusted instead of the system's roots.
        ca: Option<Arc<RootCertStore>> = optionally(table, "ca", |node| Some(authorities(node, context.env)?.0));
        /// Presented when the upstream asks for one.
        certificate: Option<Arc<CertifiedKey>> = certificate(table, context);
        /// Expected in the upstream's certificate, and sent as SNI, instead of the URL's host.
        server_name: Option<ServerName<'static>> = optionally(table, "server_name", |node| node.parse(server_name));
    }
}

defaults_table! {
    /// Idle connections to a target, kept by each worker.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Pool {
        idle: Duration = span(SPANS).or(Duration::from_secs(30)),
            "How long an unused connection stays open. Should be well below the provider's own idle timeout.";
        max_idle: usize = count::<usize>(0..=65_536).or(256),
            "Maximum number of idle connections.";
    }
}

const URL_HELP: &str =
    r#"for example: url = "https://api.openai.com", or targets = [{ url = "…", weight = 2 }, …]"#;

fn url_shape() -> Shape {
    Shape::Text("URL that begins with https:// or http://")
}

fn targets(table: &Table<'_>) -> Option<Vec<Target>> {
    let nodes = table.one_or_several("url", "targets", URL_HELP)?;
    let alone = table.get("url").is_some();
    let read: Vec<Option<Target>> =
        nodes.iter().map(|node| if alone { base(node) } else { target(node) }).collect();
    let targets: Vec<Target> = read.into_iter().collect::<Option<_>>()?;
    for (index, node) in nodes.iter().enumerate() {
        let (before, from) = targets.split_at(index);
        if from.first().is_some_and(|this| before.iter().any(|other| other.url == this.url)) {
            node.fail(complaint(
                "has the same URL as an earlier target",
                "remove it, and give the earlier one a greater `weight`",
            ));
        }
    }
    Some(targets)
}

fn target(node: &Node<'_>) -> Option<Target> {
    let table = node.table(TargetTable::NAMES)?;
    let weight = table.get("weight").map_or(Some(1), |node| node.count(1..=1000));
    let account = account::named(&table);
    let url = table.required("url", URL_HELP)?;
    Some(Target { weight: u32::try_from(weight?).ok()?, account: account?, ..base(&url)? })
}

fn base(node: &Node<'_>) -> Option<Target> {
    let url = node.parse(url::target)?;
    if let Some(base) = base_of_endpoint(url.path()) {
        let help = format!("end it with `{}`", url::shown_base(&url, base));
        node.warn(complaint(
            "is an endpoint, not a base URL: the path of each request is put behind it",
            help,
        ));
    }
    Some(Target { url, weight: 1, account: None })
}

/// Warns about each target to which a key, or a secret header value, is sent without TLS over a network.
fn secrets_have_tls(
    table: &Table<'_>,
    targets: Option<&[Target]>,
    auth: Option<&Auth>,
    headers: Option<&[SetHeader]>,
) {
    let (Some(targets), Some(auth), Some(headers)) = (targets, auth, headers) else { return };
    let message = match auth {
        Auth::Bearer | Auth::Header(_) => "the key and all content are sent without TLS",
        Auth::None if headers.iter().any(|set| set.value.is_sensitive()) => {
            "secret header values and all content are sent without TLS"
        }
        Auth::None => return,
    };
    let items = table.get("targets").and_then(|list| list.items()).unwrap_or_default();
    let nodes = table.get("url").into_iter().chain(items.iter().filter_map(|item| item.child("url")));
    for (node, target) in nodes.zip(targets) {
        if target.url.scheme_str() == Some("http") && !is_local(&target.url) {
            let help = "write https://, unless the network to the upstream is trusted";
            node.warn(complaint(message, help));
        }
    }
}

fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn auth_key() -> Or<ParseAs<Auth>> {
    parse_as(auth_shape, auth).written_as("\"bearer\"").or(Auth::Bearer)
}

fn auth_shape() -> Shape {
    Shape::Either(vec![Shape::Choice(vec!["bearer", "none"]), Shape::Table(AuthTable::keys())])
}

fn auth(node: &Node<'_>, context: &Context<'_>) -> Option<Auth> {
    if !node.is_table() {
        return node.choice(&[("bearer", Auth::Bearer), ("none", Auth::None)]);
    }
    AuthTable::read(&node.table(AuthTable::NAMES)?, context).map(|table| Auth::Header(table.header))
}

const BALANCE_HELP: &str = r#"for example: balance = { hash = "caller" }, { hash = "prompt" } or { hash = { header = "x-session" } }"#;

fn balance_shape() -> Shape {
    let words = Shape::Choice(vec!["least_pending", "round_robin"]);
    Shape::Either(vec![words, Shape::Table(BalanceTable::keys())])
}

fn balance(node: &Node<'_>, context: &Context<'_>) -> Option<Balance> {
    if !node.is_table() {
        return node
            .choice(&[("least_pending", Balance::LeastPending), ("round_robin", Balance::RoundRobin)]);
    }
    let hash = node.table(BalanceTable::NAMES)?.required("hash", BALANCE_HELP)?;
    let by = if hash.is_table() {
        HashTable::read(&hash.table(HashTable::NAMES)?, context).map(|table| HashBy::Header(table.header))
    } else {
        hash.choice(&[("caller", HashBy::Caller), ("prompt", HashBy::Prompt)])
    };
    by.map(Balance::Hash)
}

fn keys(table: &Table<'_>, auth: Option<&Auth>, context: &Context<'_>) -> Option<Vec<Secret>> {
    if auth == Some(&Auth::None) {
        if let Some(written) = table.get("key").or_else(|| table.get("keys")) {
            written.fail(complaint(r#"is not used: `auth` is "none""#, "remove the key, or remove `auth`"));
        }
        return Some(Vec::new());
    }
    let help =
        r#"for example: key = { env = "OPENAI_API_KEY" }; or auth = "none" if the upstream expects no key"#;
    let nodes = table.one_or_several("key", "keys", help)?;
    let read: Vec<Option<Secret>> = nodes.iter().map(|node| upstream_key(node, context.env)).collect();
    read.into_iter().collect()
}

/// The account of each key. What else is wrong with the keys was reported by [`keys`].
fn key_accounts(table: &Table<'_>, auth: Option<&Auth>) -> Option<Vec<KeyAccount>> {
    if auth == Some(&Auth::None) {
        return Some(Vec::new());
    }
    let nodes = match (table.get("key"), table.get("keys")) {
        (Some(node), _) => vec![node],
        (None, list) => list.filter(|list| list.value.is_array())?.items()?,
    };
    let read: Vec<Option<KeyAccount>> = nodes.iter().map(account::of_key).collect();
    read.into_iter().collect()
}

/// Reports keys of several accounts before targets that name accounts: what belongs to which could not be told.
fn accounts_are_clear(table: &Table<'_>, targets: Option<&[Target]>, keys: Option<&[KeyAccount]>) {
    let (Some(targets), Some(keys)) = (targets, keys) else { return };
    let is_named = targets.iter().any(|target| target.account.is_some());
    let are_several = keys.iter().any(|key| Some(key) != keys.first());
    if let Some(node) = table.get("targets").filter(|_| is_named && are_several) {
        node.fail(complaint(
            "names accounts, although the keys are of several accounts",
            "give all keys the same `account`, or make an upstream of each account",
        ));
    }
}

fn proxy(
    table: &Table<'_>,
    targets: Option<&[Target]>,
    context: &Context<'_>,
) -> Option<Option<EgressProxy>> {
    table.get("proxy").map_or(Some(None), |node| egress(&node, targets, context.env))
}

fn key_header_is_free(table: &Table<'_>, auth: Option<&Auth>, headers: Option<&[SetHeader]>) {
    let Some(Auth::Header(name)) = auth else { return };
    if let Some(node) = table.get("headers")
        && headers.unwrap_or_default().iter().any(|set| set.name == *name)
    {
        node.fail(complaint(
            "sets the header that carries the key",
            "remove the header here: its value is `key`",
        ));
    }
}

fn tls_has_an_effect(table: &Table<'_>, targets: Option<&[Target]>) {
    let plain = |target: &Target| target.url.scheme_str() == Some("http");
    if let Some(node) = table.get("tls")
        && targets.is_some_and(|targets| targets.iter().all(plain))
    {
        node.warn(complaint("has no effect: every URL begins with http://", "remove it, or write https://"));
    }
}

fn certificate(table: &Table<'_>, context: &Context<'_>) -> Option<Option<Arc<CertifiedKey>>> {
    let (chain, key) = (table.get("certificate"), table.get("key"));
    if chain.is_none() && key.is_none() {
        return Some(None);
    }
    let help = "a client certificate needs both `certificate` and `key`";
    let chain = chain.or_else(|| table.required("certificate", help));
    let key = key.or_else(|| table.required("key", help));
    let certificate = chain_and_key(&chain?, key.as_ref(), context.env)?;
    Some(Some(certificate.key))
}

/// `Some(None)` when the key is not written, `None` when it is and cannot be read.
fn optionally<'a, T>(
    table: &Table<'a>,
    key: &'static str,
    read: impl Fn(&Node<'a>) -> Option<T>,
) -> Option<Option<T>> {
    table.get(key).map_or(Some(None), |node| read(&node).map(Some))
}

fn server_name(text: &str) -> Result<ServerName<'static>, Complaint> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| complaint("is not a DNS name or an IP address", r#"for example "api.example.com""#))
}
