//! Where clients find the gateway: the URL of a listener, the path of a route, a model.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Method;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs::default_provider,
    pki_types::{ServerName, UnixTime},
};

use super::ClientOptions;
use crate::{
    access::Caller,
    cli::{
        paste::{is_plain_authority, is_plain_model, is_plain_path},
        run::usual_model,
    },
    config::{Certificate, Listener, ListenerTls},
    snapshot::{Route, Snapshot},
};

/// Whose API a tool speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    OpenAi,
    Anthropic,
}

/// What a tool must know of this gateway. It has no key.
#[derive(Debug)]
pub(super) struct Settings {
    /// As the tool's SDK wants it: with `/v1` for OpenAI's API, without for Anthropic's.
    pub(super) base_url: String,
    pub(super) model: String,
    /// The authority to trust, if it is not a public one.
    pub(super) ca: Option<PathBuf>,
    pub(super) route: Arc<str>,
    pub(super) client: Option<String>,
    /// What the reader has to know, in sentences.
    pub(super) notes: Vec<String>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no [client.{name}]; the clients are: {known}", known = .known.join(", "))]
    NoClient {
        /// The unknown name.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    #[error("no route leads to POST {path}{whose}; the routes are: {known}", known = .known.join(", "))]
    NoRoute {
        /// The operation.
        path: &'static str,
        /// For whom, in words.
        whose: String,
        /// All names.
        known: Vec<String>,
    },
    #[error(
        "--url is not the address of a gateway: write it as https://llm.example.com, without path and user info"
    )]
    Url,
    #[error("no model is known that this client may use; name one of {0} with --model")]
    ModelNeeded(String),
    #[error(
        "no upstream of route `{0}` is known to have Anthropic's API (auth = {{ header = \"x-api-key\" }}); if it has, name the route with --route {0}"
    )]
    NoAnthropic(Arc<str>),
    #[error("client `{client}` may not use model `{model}` (its `models`)")]
    ModelForbidden {
        /// The client's name.
        client: String,
        /// The model of `--model`.
        model: String,
    },
    #[error("model {0:?} cannot stand in these settings: it has quotes, spaces or other special characters")]
    Model(String),
    #[error("path {} of the certificate authority has quotes or other special characters: name another one with --ca", .0.display())]
    Ca(PathBuf),
}

/// The gateway that the configuration file describes.
pub(super) struct Gateway<'a> {
    pub(super) listeners: &'a [Listener],
    pub(super) clients: &'a [Arc<str>],
    pub(super) snapshot: &'a Snapshot,
    pub(super) options: &'a ClientOptions,
}

/// A route, and the path that a tool puts before its own.
struct Way<'a> {
    route: &'a Arc<Route>,
    path: String,
}

impl Api {
    /// What is asked behind the base URL.
    fn operation(self) -> &'static str {
        match self {
            Self::OpenAi => "/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }
}

impl Gateway<'_> {
    /// The settings for a tool that speaks this API.
    pub(super) fn settings(&self, api: Api) -> Result<Settings, Error> {
        let client = self.client()?;
        let way = self.way(api, client)?;
        let mut notes = Vec::new();
        if way.route.open {
            notes.push("The route needs no key: any value of SLUICEGATE_CLIENT_KEY does.".to_owned());
        }
        if api == Api::Anthropic && !has_anthropic_api(way.route) {
            let name = &way.route.name;
            if self.options.route.is_none() {
                return Err(Error::NoAnthropic(name.clone()));
            }
            notes.push(format!("No upstream of route {name} is known to have Anthropic's API (auth = {{ header = \"x-api-key\" }})."));
        }
        let Reached { origin, ca, note } = self.reached(way.route)?;
        notes.extend(note);
        Ok(Settings {
            base_url: format!("{origin}{}", way.path),
            model: self.model(client, way.route)?,
            ca,
            route: way.route.name.clone(),
            client: client.map(|client| client.name.to_string()),
            notes,
        })
    }

    /// The client of `--as`, or the only one that there is.
    fn client(&self) -> Result<Option<&Arc<Caller>>, Error> {
        let Some(name) = &self.options.client else {
            let [only] = self.clients else { return Ok(None) };
            return Ok(self.snapshot.callers.by_name(only));
        };
        let known = || self.clients.iter().map(ToString::to_string).collect();
        let found = self.snapshot.callers.by_name(name);
        found.map(Some).ok_or_else(|| Error::NoClient { name: name.clone(), known: known() })
    }

    /// The way to the API: the route with the shortest path that leads there.
    fn way(&self, api: Api, client: Option<&Arc<Caller>>) -> Result<Way<'_>, Error> {
        let is_meant = |route: &&Arc<Route>| {
            self.options.route.as_ref().is_none_or(|name| **name == *route.name)
                && client.is_none_or(|client| client.may_use_route(&route.name))
        };
        let mut routes: Vec<&Arc<Route>> = self.snapshot.routes.iter().filter(is_meant).collect();
        routes.sort_by_key(|route| (has_anthropic_api(route) != (api == Api::Anthropic), route.path.len()));
        let found = routes.into_iter().find_map(|route| self.way_through(api, route));
        found.ok_or_else(|| Error::NoRoute {
            path: api.operation(),
            whose: client.map(|client| format!(" for client `{}`", client.name)).unwrap_or_default(),
            known: self.snapshot.routes.iter().map(|route| route.name.to_string()).collect(),
        })
    }

    /// A base path from which the route takes the API's operation to the upstream's path of that operation.
    fn way_through<'r>(&self, api: Api, route: &'r Arc<Route>) -> Option<Way<'r>> {
        let path = route.path.trim_end_matches('/');
        let alone = path.strip_suffix(api.operation()).unwrap_or(path);
        let version = alone.strip_suffix("/v1").unwrap_or(alone);
        let bases = match api {
            Api::OpenAi => [alone.to_owned(), format!("{alone}/v1"), alone.to_owned()],
            Api::Anthropic => [alone.to_owned(), version.to_owned(), alone.to_owned()],
        };
        let target = route.steps.first()?.upstream.targets().next()?;
        let host = route.hosts.first().map(String::as_str);
        let fits = |base: &&String| {
            let path = format!("{base}{}", api.operation());
            let found = self.snapshot.routes.find(host, &Method::POST, &path);
            let sent = route.upstream_path(&path, target);
            found.is_ok_and(|found| found.name == route.name)
                && sent.is_some_and(|sent| is_operation(api, &sent))
        };
        bases.iter().find(fits).map(|path| Way { route, path: path.clone() })
    }

    /// A model that the client may use.
    fn model(&self, client: Option<&Arc<Caller>>, route: &Route) -> Result<String, Error> {
        let exact = client.and_then(|client| {
            let mut named = client.named_models().filter(|model| client.may_use_model(model));
            named.next().map(str::to_owned)
        });
        let upstream = route.steps.first().map(|step| &step.upstream);
        let usual =
            upstream.and_then(|upstream| upstream.targets().find_map(|target| usual_model(&target.url)));
        let fallback = if has_anthropic_api(route) { "claude-haiku-4-5" } else { "gpt-4o-mini" };
        let usual = usual.unwrap_or(fallback);
        if let (Some(client), Some(model)) = (client, &self.options.model) {
            let index = route.models.as_ref().filter(|index| index.find(model).is_some());
            let counted = index.map_or(&**model, |index| index.counted_name(model));
            if !client.may_use_model(counted) {
                let (client, model) = (client.name.to_string(), model.clone());
                return Err(Error::ModelForbidden { client, model });
            }
        }
        let may_use = |model: &str| client.is_none_or(|client| client.may_use_model(model));
        let chosen =
            self.options.model.clone().or(exact).or_else(|| may_use(usual).then(|| usual.to_owned()));
        let Some(model) = chosen else { return Err(Error::ModelNeeded(allowed_patterns(client))) };
        if is_plain_model(&model) { Ok(model) } else { Err(Error::Model(model)) }
    }

    /// Where clients connect, and whom they trust.
    fn reached(&self, route: &Route) -> Result<Reached, Error> {
        if let Some(url) = &self.options.url {
            let scheme = url.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
            let authority = url.authority().filter(|authority| is_plain_authority(authority));
            let (Some(scheme), Some(authority), "/", None) = (scheme, authority, url.path(), url.query())
            else {
                return Err(Error::Url);
            };
            let ca = self.options.ca.as_deref().map(plain_path).transpose()?;
            return Ok(Reached { origin: format!("{scheme}://{authority}"), ca, note: None });
        }
        let with_tls = self.listeners.iter().find_map(|one| Some((one, one.tls.as_ref()?)));
        let first = self.listeners.first().map(|one| (one, None));
        let (listener, tls) = match with_tls {
            Some((listener, tls)) => (listener, Some(tls)),
            None => first.ok_or(Error::Url)?,
        };
        let address = reachable(listener.address);
        let host = route.hosts.first().cloned().unwrap_or_else(|| host(address, tls));
        let Some(tls) = tls else {
            return Ok(Reached {
                origin: format!("http://{host}{}", port(address, 80)),
                ca: None,
                note: None,
            });
        };
        let origin = format!("https://{host}{}", port(address, 443));
        let certificate = tls.certificates.first();
        let (ca, note) = match (&self.options.ca, certificate) {
            (Some(ca), _) => (Some(plain_path(ca)?), None),
            (None, Some(certificate)) if !is_public(certificate, &host) => authority(certificate)?,
            _ => (None, None),
        };
        Ok(Reached { origin, ca, note })
    }
}

/// Where clients connect.
struct Reached {
    /// Scheme, host and port.
    origin: String,
    ca: Option<PathBuf>,
    note: Option<String>,
}

fn has_anthropic_api(route: &Route) -> bool {
    let upstream = route.steps.first().map(|step| &step.upstream);
    upstream.is_some_and(|upstream| upstream.auth.as_ref().is_some_and(|name| name == "x-api-key"))
}

/// Whether an upstream knows the path: behind the version of its API, written once.
fn is_operation(api: Api, path: &str) -> bool {
    let Some(base) = path.strip_suffix(api.operation()) else { return false };
    let last = base.rsplit('/').next().unwrap_or_default();
    let is_version =
        last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    match api {
        // Gemini's API for OpenAI's clients is at /v1beta/openai.
        Api::OpenAi => is_version || last == "openai",
        Api::Anthropic => !is_version,
    }
}

/// A listener on all addresses is reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A name of the certificate, so that clients accept it; else the address.
fn host(address: SocketAddr, tls: Option<&ListenerTls>) -> String {
    let names = tls.into_iter().flat_map(|tls| &tls.certificates).flat_map(|one| &one.names);
    let mut names = names.filter(|name| !name.starts_with('*'));
    let local = address.ip().is_loopback().then(|| names.clone().find(|name| *name == "localhost")).flatten();
    let written = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    local.or_else(|| names.next()).cloned().unwrap_or(written)
}

fn port(address: SocketAddr, usual: u16) -> String {
    if address.port() == usual { String::new() } else { format!(":{}", address.port()) }
}

/// Whether clients that trust the system's authorities accept the certificate.
fn is_public(certificate: &Certificate, host: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let Some((own, intermediates)) = certificate.key.cert.split_first() else { return false };
    let Ok(name) = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()) else { return false };
    verifier.verify_server_cert(own, intermediates, &name, &[], UnixTime::now()).is_ok()
}

/// The authority of a certificate that is not public: `sluicegate cert` writes it beside the certificate.
fn authority(certificate: &Certificate) -> Result<(Option<PathBuf>, Option<String>), Error> {
    let beside = certificate.path.with_file_name("ca.pem");
    match fs::canonicalize(&beside) {
        Ok(path) => Ok((Some(plain_path(&path)?), None)),
        Err(_) => {
            let note = "The certificate is not signed by a public authority: replace /path/to/ca.pem, or name it with --ca.";
            Ok((Some(PathBuf::from("/path/to/ca.pem")), Some(note.to_owned())))
        }
    }
}

/// The absolute path, if it needs no escaping in a shell, Python, JSON or YAML.
fn plain_path(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if is_plain_path(&path) { Ok(path) } else { Err(Error::Ca(path)) }
}

/// The models that a client may use, as they are configured.
fn allowed_patterns(client: Option<&Arc<Caller>>) -> String {
    let models = client.into_iter().flat_map(|client| client.listed_models());
    models.map(|model| format!("`{model}`")).collect::<Vec<_>>().join(", ")
}
