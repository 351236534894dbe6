//! Upstreams, compiled: targets with their dialers, keys as header values.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Uri, header, uri::Authority};
use rustls::{
    ClientConfig, RootCertStore,
    client::{ResolvesClientCert, Resumption},
    sign::CertifiedKey,
};

use super::{CompileError, Snapshot};
use zeroize::Zeroizing;

use crate::{
    config::{self, Auth, Balance, Secret, Timeouts},
    policy::Crossing,
    upstream::{Affinity, Budget, Dialer, Egress, KeyRing, Plan, PoolLimits, Rotation, TargetState},
};

/// TLS sessions kept for resumption, for each upstream.
const SESSIONS: usize = 64;

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
    /// Finds its keys in what goes to a caller.
    pub crossing: Crossing<'static>,
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
            };
            let compiled = compiler.upstream(&mut system)?;
            Ok((name.clone(), Arc::new(compiled)))
        })
        .collect()
}

fn shortest_connect(
    name: &Arc<str>,
    upstream: &config::Upstream,
    routes: &BTreeMap<Arc<str>, config::Route>,
) -> Duration {
    let using = routes.values().filter(|route| route.upstreams.iter().any(|choice| choice.upstream == *name));
    let overrides = using.filter_map(|route| route.timeout.connect);
    overrides.chain([upstream.timeout.connect]).min().unwrap_or(upstream.timeout.connect)
}

/// One upstream on its way from what was written to what is used.
struct Compiler<'a> {
    name: &'a Arc<str>,
    written: &'a config::Upstream,
    /// The one of the same name in the configuration before.
    previous: Option<&'a Arc<Upstream>>,
    /// The shortest time that any route gives a connection to it: each of its addresses must have its turn within.
    connect: Duration,
}

/// The system's trusted certificates, read when they are first needed.
#[derive(Default)]
struct SystemRoots(Option<Arc<RootCertStore>>);

impl Compiler<'_> {
    fn upstream(&self, system: &mut SystemRoots) -> Result<Upstream, CompileError> {
        let written = self.written;
        let tls = self.tls(system)?;
        let targets = written.targets.iter().map(|target| (self.target(target, &tls), target.weight));
        let (auth, keys) = self.keys();
        let headers = written.headers.clone();
        let named =
            headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(_, value)| value.as_bytes());
        let secrets = written.keys.iter().map(|key| key.expose().as_bytes()).chain(named);
        Ok(Upstream {
            name: self.name.clone(),
            rotation: Rotation::new(targets).ok_or_else(|| CompileError::NoTarget(self.name.clone()))?,
            auth,
            keys,
            crossing: Crossing::new(secrets).into_owned(),
            headers,
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

    fn target(&self, written: &config::Target, tls: &ClientConfig) -> Target {
        let url = &written.url;
        let authority = url.authority().cloned().unwrap_or_else(|| Authority::from_static("localhost"));
        let host = HeaderValue::from_str(authority.as_str()).unwrap_or(HeaderValue::from_static("localhost"));
        let shown: Arc<str> = url.to_string().trim_end_matches('/').into();
        let known = self.previous.and_then(|previous| previous.targets().find(|target| target.url == shown));
        Target {
            state: known.map(|target| target.state.clone()).unwrap_or_default(),
            weight: written.weight,
            affinity: Affinity::of(shown.as_bytes()),
            url: shown,
            base: written.base_path().to_owned(),
            dialer: self.dialer(url, &authority, tls, known.map(|target| &target.dialer)),
            authority,
            host,
        }
    }

    fn dialer(
        &self,
        url: &Uri,
        authority: &Authority,
        tls: &ClientConfig,
        known: Option<&Arc<Dialer>>,
    ) -> Arc<Dialer> {
        let written = self.written;
        let scheme = url.scheme_str().unwrap_or("http");
        let identity = self.identity(scheme, authority);
        if let Some(known) = known.filter(|dialer| dialer.identity() == identity) {
            return known.clone();
        }
        let origin = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build();
        Arc::new(Dialer::new(Plan {
            origin: origin.unwrap_or_else(|_| url.clone()),
            tls: tls.clone(),
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
            slots: known.map(|dialer| dialer.slots().clone()).unwrap_or_default(),
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
    fn identity(&self, scheme: &str, authority: &Authority) -> String {
        let written = self.written;
        let proxy = written.proxy.as_ref().map(|proxy| (&proxy.url, &proxy.bypass));
        let limits = (written.pool.idle, written.pool.max_idle, written.max_connections, self.connect);
        let plain = format!(
            "{scheme}://{authority} {} {:?} {proxy:?} {limits:?}",
            written.http2, written.tls.server_name
        );
        let mut digest = Context::new(&SHA256);
        for root in written.tls.ca.iter().flat_map(|roots| &roots.roots) {
            digest.update(&root.subject_public_key_info);
            digest.update(&root.subject);
        }
        for certificate in written.tls.certificate.iter().flat_map(|key| &key.cert) {
            digest.update(certificate);
        }
        if let Some(credentials) = written.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref()) {
            digest.update(credentials.expose().as_bytes());
        }
        format!("{plain} {:?}", digest.finish())
    }

    fn tls(&self, system: &mut SystemRoots) -> Result<ClientConfig, CompileError> {
        let written = &self.written.tls;
        let roots = match &written.ca {
            Some(roots) => roots.clone(),
            None if !self.needs_tls() => Arc::new(RootCertStore::empty()),
            None => system.get().ok_or_else(|| CompileError::NoRoots(self.name.clone()))?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| CompileError::Upstream { name: self.name.clone(), source })?
            .with_root_certificates(roots);
        let mut config = match &written.certificate {
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
    let domain = pattern.trim_start_matches("*.").trim_start_matches('.');
    let below = || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    pattern == "*" || host.eq_ignore_ascii_case(domain) || below()
}
