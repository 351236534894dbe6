//! Compiled upstreams: targets with their dialers, keys as header values.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Uri, header, uri::Authority};
use rustls::{ClientConfig, RootCertStore};

use zeroize::Zeroizing;

use super::{
    CompileError, Snapshot, Written,
    trust::{SystemRoots, client_tls, trusted},
};
use crate::{
    config::{
        self, Auth, Azure, Balance, IncludeUsage, KeyAccount, ModelTables, ModelUpstreams, Otlp, Secret,
        SetHeader, Timeouts,
    },
    policy::SecretScanner,
    upstream::{
        Account, Affinity, Budget, Dialer, DialerOptions, Egress, Key, KeyRing, PoolLimits, Rotation,
        TargetState, UsageSupport,
    },
};

/// Shortest secret in bytes. A shorter value of a header with a secret's name is not treated as a secret.
const SHORTEST_SECRET: usize = 8;

/// One compiled `[upstream.NAME]`.
#[derive(Debug)]
pub struct Upstream {
    /// NAME
    pub name: Arc<str>,
    /// The targets, in rotation.
    rotation: Rotation<Target>,
    /// The header that carries the key.
    pub auth: Option<HeaderName>,
    /// The keys, as values of that header.
    pub keys: KeyRing,
    /// The account of each key, in the order of the configuration; the upstream's own if it has no keys.
    key_accounts: Vec<Account>,
    /// Finds the keys of all upstreams in bytes sent to a client; shared with the snapshot.
    pub secrets: Arc<SecretScanner<'static>>,
    /// How OpenAI's paths become those of an Azure OpenAI resource.
    pub azure: Option<Box<Azure>>,
    /// Headers set on each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Timeouts, which a route may override.
    pub timeouts: Timeouts,
    /// Load balancing between the targets.
    pub balance: Balance,
    /// Limit of concurrent requests to each target.
    pub max_pending: Option<usize>,
    /// TLS settings of connections to its targets.
    pub tls: ClientConfig,
    /// The retry budget; taken over from one configuration to the next.
    pub budget: Arc<Budget>,
    /// Whether the usage of streams may be asked for here (`include_usage`).
    pub include_usage: IncludeUsage,
    /// Whether the upstream has refused that; taken over from one configuration to the next.
    pub usage_support: Arc<UsageSupport>,
}

/// One compiled base URL.
#[derive(Debug)]
pub struct Target {
    /// The URL as it is logged.
    pub url: Arc<str>,
    /// Prefix of the request path; it does not end with a slash.
    pub base: String,
    /// The `host` or `host:port` for `Host` and `:authority`.
    pub authority: Authority,
    /// The authority as a header value.
    pub host: HeaderValue,
    /// Opens connections to the target.
    pub dialer: Arc<Dialer>,
    /// The target's share of the requests.
    pub weight: u32,
    /// The hashed name of the target, compared with affinity values of requests.
    pub affinity: Affinity,
    /// The account of what is kept at this target; `None`: that of the key.
    pub account: Option<Account>,
    /// Circuit breaker and pending count; taken over from one configuration to the next.
    pub state: Arc<TargetState>,
}

impl Upstream {
    /// Returns the index of the next target in rotation.
    pub fn turn(&self) -> usize {
        self.rotation.turn()
    }

    /// Returns the target at index `turn`.
    pub fn target(&self, turn: usize) -> &Target {
        self.rotation.get(turn)
    }

    /// Iterates over all targets.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.rotation.iter()
    }

    /// Whether the upstream may be asked for the usage of a stream at `now`.
    pub fn takes_usage(&self, now: Instant) -> bool {
        self.include_usage == IncludeUsage::Accepts && self.usage_support.may_be_asked(now)
    }

    /// Number of targets; at least one.
    pub fn count(&self) -> usize {
        self.rotation.count()
    }

    /// The account that a request belongs to which is sent to `target` with the key of this number, counted from 1; `None` without a key.
    pub fn account<'a>(&'a self, target: &'a Target, key: Option<usize>) -> Option<&'a Account> {
        let of_key = || self.key_accounts.get(key.map_or(0, |number| number.saturating_sub(1)));
        target.account.as_ref().or_else(of_key)
    }

    /// The keys that belong to none of `accounts` at `target`; `None`: all do, or the target itself.
    pub fn foreign_keys(&self, target: &Target, accounts: &[Account]) -> Option<Vec<Key>> {
        let is_allowed = |account: &Account| accounts.contains(account);
        if let Some(account) = &target.account {
            return is_allowed(account).then(Vec::new);
        }
        if !self.key_accounts.iter().any(is_allowed) {
            return None;
        }
        let is_foreign = |index| !self.key_accounts.get(index).is_some_and(is_allowed);
        Some(self.keys.chosen(is_foreign))
    }

    /// The accounts of all targets and keys; one may come several times.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        let of_targets = self.targets().filter_map(|target| target.account.as_ref());
        let by_key = self.targets().any(|target| target.account.is_none());
        of_targets.chain(self.key_accounts.iter().filter(move |_| by_key))
    }
}

/// Compiles all upstreams. A target's dialer, with its connections and sessions, is taken over from `previous` while its identity is
/// unchanged; otherwise only its connection count is taken over.
pub(super) fn compile(
    written: &Written<'_>,
    secrets: &Arc<SecretScanner<'static>>,
    previous: Option<&Snapshot>,
) -> Result<BTreeMap<Arc<str>, Arc<Upstream>>, CompileError> {
    let mut system = SystemRoots::default();
    written
        .upstreams
        .iter()
        .map(|(name, upstream)| {
            let compiler = Compiler {
                name,
                written: upstream,
                previous: previous.and_then(|previous| previous.upstreams.get(name)),
                connect: shortest_connect(name, upstream, written.routes),
                secrets,
            };
            let compiled = compiler.upstream(&mut system)?;
            Ok((name.clone(), Arc::new(compiled)))
        })
        .collect()
}

/// Builds one scanner for every secret of the gateway's own: the keys of all upstreams, and secret values of upstream, route and collector
/// headers.
/// An upstream that repeats another upstream's key is detected too.
pub(super) fn scanner(
    upstreams: &BTreeMap<Arc<str>, config::Upstream>,
    routes: &BTreeMap<Arc<str>, config::Route>,
    otlp: Option<&Otlp>,
) -> SecretScanner<'static> {
    let keys = upstreams.values().flat_map(|upstream| &upstream.keys).map(|key| key.expose().as_bytes());
    let of_upstreams = upstreams.values().flat_map(|upstream| &upstream.headers);
    let of_routes = routes.values().flat_map(|route| &route.request_headers.set);
    let exports = otlp.into_iter().flat_map(|otlp| otlp.traces.iter().chain(&otlp.metrics));
    let of_collectors = exports.flat_map(|export| &export.headers);
    let headers = of_upstreams.chain(of_routes).chain(of_collectors).filter(|set| is_secret(set));
    let in_headers: Vec<Zeroizing<Vec<u8>>> =
        headers.flat_map(|set| secret_parts(set.value.as_bytes())).collect();
    let mut secrets: Vec<&[u8]> = keys.chain(in_headers.iter().map(|part| part.as_slice())).collect();
    secrets.sort_unstable();
    secrets.dedup();
    SecretScanner::new(secrets).into_owned()
}

/// What of a header value is secret: the value, the word after an authentication scheme, and what that word says in base64
/// (`Basic`, RFC 7617).
fn secret_parts(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut parts = vec![Zeroizing::new(value.to_vec())];
    let text = std::str::from_utf8(value).unwrap_or_default();
    if let Some((scheme, credentials)) = text.split_once(' ') {
        parts.push(Zeroizing::new(credentials.as_bytes().to_vec()));
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(login) = STANDARD.decode(credentials)
        {
            parts.push(Zeroizing::new(login));
        }
    }
    parts
}

fn shortest_connect(
    name: &Arc<str>,
    upstream: &config::Upstream,
    routes: &BTreeMap<Arc<str>, config::Route>,
) -> Duration {
    let using = routes.values().filter(|route| leads_to(route, name));
    let overrides = using.filter_map(|route| route.timeout.connect);
    overrides.chain([upstream.timeout.connect]).min().unwrap_or(upstream.timeout.connect)
}

/// Whether the route may send requests to this upstream, by itself or by a `[model.NAME]` table.
fn leads_to(route: &config::Route, upstream: &str) -> bool {
    let by_tables = route.model_tables != ModelTables::Off && route.model_upstreams == ModelUpstreams::All;
    by_tables || route.upstreams.iter().any(|choice| *choice.upstream == *upstream)
}

/// Whether responses are searched for a header value: it was read from where secrets are, or the header's name indicates a secret, and the
/// value is not as short as a version number, which would be found everywhere.
fn is_secret(set: &SetHeader) -> bool {
    set.secret || (set.value.is_sensitive() && set.value.len() >= SHORTEST_SECRET)
}

/// Headers to set, as the policy for headers takes them.
pub(super) fn pairs(set: &[SetHeader]) -> Vec<(HeaderName, HeaderValue)> {
    set.iter().map(|set| (set.name.clone(), set.value.clone())).collect()
}

/// Compiles one upstream.
struct Compiler<'a> {
    name: &'a Arc<str>,
    written: &'a config::Upstream,
    /// The upstream of the same name in the previous configuration.
    previous: Option<&'a Arc<Upstream>>,
    /// The shortest connect timeout of any route to this upstream: all of its addresses must be tried within this time.
    connect: Duration,
    secrets: &'a Arc<SecretScanner<'static>>,
}

/// The TLS settings for connections to targets.
struct Way<'a> {
    tls: &'a ClientConfig,
    /// Digest that identifies the set of trusted authorities.
    trusted: Digest,
}

impl Compiler<'_> {
    fn upstream(&self, system: &mut SystemRoots) -> Result<Upstream, CompileError> {
        let written = self.written;
        let roots = self.roots(system)?;
        let tls = self.tls(roots.clone())?;
        let way = Way { tls: &tls, trusted: trusted(&roots) };
        let targets = written.targets.iter().map(|target| (self.target(target, &way), target.weight));
        let (auth, keys, key_accounts) = self.keys();
        Ok(Upstream {
            name: self.name.clone(),
            rotation: Rotation::new(targets).ok_or_else(|| CompileError::NoTarget(self.name.clone()))?,
            auth,
            keys,
            key_accounts,
            secrets: self.secrets.clone(),
            azure: written.azure.clone().map(Box::new),
            headers: pairs(&written.headers),
            timeouts: written.timeout,
            balance: written.balance.clone(),
            max_pending: written.max_pending,
            tls: tls.clone(),
            budget: self.previous.map(|previous| previous.budget.clone()).unwrap_or_default(),
            include_usage: written.include_usage,
            usage_support: self.previous.map(|previous| previous.usage_support.clone()).unwrap_or_default(),
        })
    }

    fn needs_tls(&self) -> bool {
        self.written.targets.iter().any(|target| target.url.scheme_str() == Some("https"))
    }

    fn keys(&self) -> (Option<HeaderName>, KeyRing, Vec<Account>) {
        let (name, prefix) = match &self.written.auth {
            Auth::None => return (None, KeyRing::default(), vec![Account::new(self.name.clone())]),
            Auth::Bearer => (header::AUTHORIZATION, "Bearer "),
            Auth::Header(name) => (name.clone(), ""),
        };
        let value = |key: &Secret| HeaderValue::try_from([prefix, key.expose()].concat()).ok();
        let written = self.written.keys.iter().zip(&self.written.key_accounts);
        let (values, accounts) =
            written.filter_map(|(key, account)| Some((value(key)?, self.account(account)))).unzip();
        let previous = self.previous.map(|previous| &previous.keys);
        (Some(name), KeyRing::new(values, previous), accounts)
    }

    fn account(&self, written: &KeyAccount) -> Account {
        Account::new(match written {
            KeyAccount::Named(name) => name.clone(),
            // No `account` in the file has a slash in it.
            KeyAccount::Own(source) => format!("{}/{source}", self.name).into(),
        })
    }

    fn target(&self, written: &config::Target, way: &Way<'_>) -> Target {
        let url = &written.url;
        let authority = url.authority().cloned().unwrap_or_else(|| Authority::from_static("localhost"));
        let host = HeaderValue::from_str(authority.as_str()).unwrap_or(HeaderValue::from_static("localhost"));
        let shown: Arc<str> = url.to_string().trim_end_matches('/').into();
        let known = self.previous.and_then(|previous| previous.targets().find(|target| target.url == shown));
        Target {
            state: known
                .map_or_else(|| Arc::new(TargetState::new(shown.clone())), |target| target.state.clone()),
            weight: written.weight,
            account: written.account.clone().map(Account::new),
            affinity: Affinity::of(shown.as_bytes()),
            url: shown,
            base: written.base_path().to_owned(),
            dialer: self.dialer(url, &authority, way, known.map(|target| &target.dialer)),
            authority,
            host,
        }
    }

    fn dialer(
        &self,
        url: &Uri,
        authority: &Authority,
        way: &Way<'_>,
        known: Option<&Arc<Dialer>>,
    ) -> Arc<Dialer> {
        let written = self.written;
        let scheme = url.scheme_str().unwrap_or("http");
        let identity = self.identity(scheme, authority, way);
        if let Some(known) = known.filter(|dialer| dialer.identity() == identity) {
            return known.clone();
        }
        let origin = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build();
        Arc::new(Dialer::new(&DialerOptions {
            origin: origin.unwrap_or_else(|_| url.clone()),
            tls: way.tls.clone(),
            server_name: written.tls.server_name.clone(),
            http2: written.http2,
            egress: self.egress(authority.host()),
            connect: self.connect,
            limits: PoolLimits {
                idle: written.pool.idle,
                max_idle: written.pool.max_idle,
                max_open: written.max_connections,
            },
            identity,
            connection_limit: known.map(|dialer| dialer.connection_limit().clone()).unwrap_or_default(),
        }))
    }

    fn egress(&self, host: &str) -> Option<Egress> {
        let proxy = self.written.proxy.as_ref()?;
        if proxy.bypass.iter().any(|pattern| bypasses(pattern, host)) {
            return None;
        }
        let basic = |secret: &Secret| {
            let login = Zeroizing::new(STANDARD.encode(secret.expose()));
            let mut value = HeaderValue::try_from(["Basic ", &login].concat()).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Some(Egress { proxy: proxy.url.clone(), authorization: proxy.credentials.as_ref().and_then(basic) })
    }

    /// Returns the identity of connections: connections of equal identity are interchangeable. Secrets are included as a digest.
    fn identity(&self, scheme: &str, authority: &Authority, way: &Way<'_>) -> String {
        let written = self.written;
        let proxy = written.proxy.as_ref().map(|proxy| (&proxy.url, &proxy.bypass));
        let limits = (written.pool.idle, written.pool.max_idle, written.max_connections, self.connect);
        let plain = format!(
            "{scheme}://{authority} {} {:?} {proxy:?} {limits:?}",
            written.http2, written.tls.server_name
        );
        let mut digest = Context::new(&SHA256);
        digest.update(way.trusted.as_ref());
        for certificate in written.tls.certificate.iter().flat_map(|key| &key.cert) {
            digest.update(certificate);
        }
        if let Some(credentials) = written.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref()) {
            digest.update(credentials.expose().as_bytes());
        }
        format!("{plain} {:?}", digest.finish())
    }

    fn roots(&self, system: &mut SystemRoots) -> Result<Arc<RootCertStore>, CompileError> {
        match &self.written.tls.ca {
            Some(roots) => Ok(roots.clone()),
            None if !self.needs_tls() => Ok(Arc::new(RootCertStore::empty())),
            None => system.get().ok_or_else(|| CompileError::NoRoots(self.name.clone())),
        }
    }

    fn tls(&self, roots: Arc<RootCertStore>) -> Result<ClientConfig, CompileError> {
        client_tls(roots, self.written.tls.certificate.as_ref())
            .map_err(|source| CompileError::Upstream { name: self.name.clone(), source })
    }
}

/// Whether NO_PROXY's `pattern` matches `host`: `*`, the host itself, or a parent domain.
fn bypasses(pattern: &str, host: &str) -> bool {
    let domain = pattern.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    // A URL contains an IPv6 address in brackets.
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    pattern == "*" || host.strip_suffix(&*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::bypasses;

    #[test]
    fn no_proxy_names_hosts_and_domains_in_any_case() {
        for (pattern, host, expected) in [
            ("*", "api.example.com", true),
            ("example.com", "api.Example.com", true),
            (".Example.com", "api.example.com", true),
            ("*.example.com", "API.EXAMPLE.COM", true),
            ("example.com", "example.com", true),
            ("example.com", "notexample.com", false),
            ("api.example.com", "example.com", false),
            ("::1", "[::1]", true),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(bypasses(pattern, host), expected, "{pattern} {host}");
        }
    }
}
