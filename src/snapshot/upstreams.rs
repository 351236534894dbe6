//! Upstreams, compiled: targets with their dialers, keys as header values.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Uri, header, uri::Authority};
use rustls::{
    ClientConfig, RootCertStore,
    client::{ResolvesClientCert, Resumption},
    pki_types::TrustAnchor,
    sign::CertifiedKey,
};

use super::{CompileError, Snapshot};
use zeroize::Zeroizing;

use crate::{
    config::{self, Auth, Balance, Secret, Timeouts},
    policy::SecretScanner,
    upstream::{Affinity, Budget, Dialer, DialerOptions, Egress, KeyRing, PoolLimits, Rotation, TargetState},
};

/// TLS sessions kept for resumption, for each upstream.
const SESSIONS: usize = 64;

/// In bytes. What is shorter, in a header that is called as if it were a secret, is none.
const SHORTEST_SECRET: usize = 8;

/// One `[upstream.NAME]`, compiled.
#[derive(Debug)]
pub struct Upstream {
    /// NAME
    pub name: Arc<str>,
    /// Its base URLs.
    rotation: Rotation<Target>,
    /// The header that carries its key.
    pub auth: Option<HeaderName>,
    /// Its keys, as values of that header.
    pub keys: KeyRing,
    /// Finds the keys of all upstreams in what goes to a client; the snapshot's own scanner.
    pub secrets: Arc<SecretScanner<'static>>,
    /// Set on each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its clocks; a route may override them.
    pub timeouts: Timeouts,
    /// How its targets share the requests.
    pub balance: Balance,
    /// Requests at once to each target.
    pub max_pending: Option<usize>,
    /// How much may be asked of it again; taken over from one configuration to the next.
    pub budget: Arc<Budget>,
}

/// One base URL, compiled.
#[derive(Debug)]
pub struct Target {
    /// As it is logged.
    pub url: Arc<str>,
    /// Put before a request's path; without a slash at its end.
    pub base: String,
    /// `host` or `host:port` for `Host` and `:authority`.
    pub authority: Authority,
    /// The same, as a header's value.
    pub host: HeaderValue,
    /// How it is reached.
    pub dialer: Arc<Dialer>,
    /// Its share of the requests.
    pub weight: u32,
    /// Its name, as values that lead to it are compared with.
    pub affinity: Affinity,
    /// How it is doing; taken over from one configuration to the next.
    pub state: Arc<TargetState>,
}

impl Upstream {
    /// Which target's turn it is.
    pub fn turn(&self) -> usize {
        self.rotation.turn()
    }

    /// The target of a turn.
    pub fn target(&self, turn: usize) -> &Target {
        self.rotation.get(turn)
    }

    /// All of its targets.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.rotation.iter()
    }

    /// How many there are; at least one.
    pub fn count(&self) -> usize {
        self.rotation.count()
    }
}

/// Compiles all upstreams; a target's dialer is taken over from `previous` while its identity stays, and with it its connections and
/// sessions, and otherwise the count of its connections.
pub(super) fn compile(
    written: &BTreeMap<Arc<str>, config::Upstream>,
    routes: &BTreeMap<Arc<str>, config::Route>,
    secrets: &Arc<SecretScanner<'static>>,
    previous: Option<&Snapshot>,
) -> Result<BTreeMap<Arc<str>, Arc<Upstream>>, CompileError> {
    let mut system = SystemRoots::default();
    written
        .iter()
        .map(|(name, upstream)| {
            let compiler = Compiler {
                name,
                written: upstream,
                previous: previous.and_then(|previous| previous.upstreams.get(name)),
                connect: shortest_connect(name, upstream, routes),
                secrets,
            };
            let compiled = compiler.upstream(&mut system)?;
            Ok((name.clone(), Arc::new(compiled)))
        })
        .collect()
}

/// One scanner for every secret that may go upstream: the keys of all upstreams, and header values of upstreams and routes whose names say
/// that they are secret. An upstream that repeats another upstream's key is caught as well.
pub(super) fn scanner(
    upstreams: &BTreeMap<Arc<str>, config::Upstream>,
    routes: &BTreeMap<Arc<str>, config::Route>,
) -> SecretScanner<'static> {
    let keys = upstreams.values().flat_map(|upstream| &upstream.keys).map(|key| key.expose().as_bytes());
    let of_upstreams = upstreams.values().flat_map(|upstream| &upstream.headers);
    let of_routes = routes.values().flat_map(|route| &route.request_headers.set);
    let headers = of_upstreams.chain(of_routes).filter(|(_, value)| is_secret(value));
    let mut secrets: Vec<&[u8]> = keys.chain(headers.map(|(_, value)| value.as_bytes())).collect();
    secrets.sort_unstable();
    secrets.dedup();
    SecretScanner::new(secrets).into_owned()
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

fn leads_to(route: &config::Route, upstream: &str) -> bool {
    route.upstreams.iter().any(|choice| *choice.upstream == *upstream)
}

/// Whether a header's value is to be looked for in answers: its name says that it may be a secret, and it is not as short as a version, which
/// would be found everywhere.
fn is_secret(value: &HeaderValue) -> bool {
    value.is_sensitive() && value.len() >= SHORTEST_SECRET
}

/// Of all that makes one authority another, in an order of its own.
fn trusted(roots: &RootCertStore) -> Digest {
    let part = |part: &[u8]| [&(part.len() as u64).to_be_bytes(), part].concat();
    let written = |root: &TrustAnchor<'_>| {
        let constraints = root.name_constraints.as_deref().unwrap_or_default();
        [part(&root.subject), part(&root.subject_public_key_info), part(constraints)].concat()
    };
    let mut written: Vec<_> = roots.roots.iter().map(written).collect();
    written.sort_unstable();
    digest(&SHA256, &written.concat())
}

/// One upstream on its way from what was written to what is used.
struct Compiler<'a> {
    name: &'a Arc<str>,
    written: &'a config::Upstream,
    /// The one of the same name in the configuration before.
    previous: Option<&'a Arc<Upstream>>,
    /// The shortest time that any route gives a connection to it: each of its addresses must have its turn within.
    connect: Duration,
    secrets: &'a Arc<SecretScanner<'static>>,
}

/// How its targets are reached by TLS.
struct Way<'a> {
    tls: &'a ClientConfig,
    /// Tells the authorities that are trusted from others.
    trusted: Digest,
}

/// The system's trusted certificates, read when they are first needed.
#[derive(Default)]
struct SystemRoots(Option<Arc<RootCertStore>>);

impl Compiler<'_> {
    fn upstream(&self, system: &mut SystemRoots) -> Result<Upstream, CompileError> {
        let written = self.written;
        let roots = self.roots(system)?;
        let tls = self.tls(roots.clone())?;
        let way = Way { tls: &tls, trusted: trusted(&roots) };
        let targets = written.targets.iter().map(|target| (self.target(target, &way), target.weight));
        let (auth, keys) = self.keys();
        Ok(Upstream {
            name: self.name.clone(),
            rotation: Rotation::new(targets).ok_or_else(|| CompileError::NoTarget(self.name.clone()))?,
            auth,
            keys,
            secrets: self.secrets.clone(),
            headers: written.headers.clone(),
            timeouts: written.timeout,
            balance: written.balance.clone(),
            max_pending: written.max_pending,
            budget: self.previous.map(|previous| previous.budget.clone()).unwrap_or_default(),
        })
    }

    fn needs_tls(&self) -> bool {
        self.written.targets.iter().any(|target| target.url.scheme_str() == Some("https"))
    }

    fn keys(&self) -> (Option<HeaderName>, KeyRing) {
        let (name, prefix) = match &self.written.auth {
            Auth::None => return (None, KeyRing::default()),
            Auth::Bearer => (header::AUTHORIZATION, "Bearer "),
            Auth::Header(name) => (name.clone(), ""),
        };
        let value = |key: &Secret| HeaderValue::try_from([prefix, key.expose()].concat()).ok();
        let values = self.written.keys.iter().filter_map(value).collect();
        let previous = self.previous.map(|previous| &previous.keys);
        (Some(name), KeyRing::new(values, previous))
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
        Arc::new(Dialer::new(DialerOptions {
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

    /// Everything that makes a connection one that may serve in another's place, secrets by their digest.
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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| CompileError::Upstream { name: self.name.clone(), source })?
            .with_root_certificates(roots);
        let mut config = match &self.written.tls.certificate {
            Some(key) => builder.with_client_cert_resolver(Arc::new(OneCertificate(key.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(config)
    }
}

impl SystemRoots {
    fn get(&mut self) -> Option<Arc<RootCertStore>> {
        if self.0.is_none() {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a part of the system's certificate store cannot be read");
            }
            roots.add_parsable_certificates(found.certs);
            self.0 = (!roots.is_empty()).then(|| Arc::new(roots));
        }
        self.0.clone()
    }
}

/// The client certificate that an upstream is shown when it asks for one.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for OneCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether `host` is one that NO_PROXY's `pattern` names: `*`, the host itself, or a domain above it.
fn bypasses(pattern: &str, host: &str) -> bool {
    let domain = pattern.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    // A URL has an IPv6 address in brackets.
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
