//! `run`: the gateway in front of a real provider, without a configuration file.

mod access;
mod file;
mod greeting;
mod instructions;
mod models;
mod providers;
mod wording;

use std::{
    env,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use http::{Uri, uri::Authority};
use serde_json::Value;

use crate::{
    app::{App, AppError, Ended, Surroundings},
    config::{self, Config, Env},
    openai::base_of_endpoint,
};
pub(super) use access::Access;
pub(super) use file::Tls;
pub(super) use providers::Provider;

use file::Plan;
use greeting::Found;
use models::{Rule, Rules};

/// What `run` serves, and where.
#[derive(Debug, Args)]
pub(super) struct RunOptions {
    /// Base URL of the provider, as an SDK would be given it; for example a local vLLM, Ollama or llama.cpp
    #[arg(long, value_name = "URL", value_parser = base_url)]
    to: Option<Uri>,
    /// Environment variable with the provider's key, for --to (a local server needs none)
    #[arg(long, value_name = "NAME", requires = "to")]
    key_env: Option<String>,
    /// Listen address, without TLS; loopback only
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = super::address)]
    listen: SocketAddr,
    /// Listen address of the admin listener: /live, /healthz, /readyz, /metrics, /status, /config
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901", value_parser = super::address)]
    admin: SocketAddr,
    /// Keep the client key in this file; it is created with a new key if it does not exist
    #[arg(long, value_name = "FILE")]
    client_key_file: Option<PathBuf>,
    /// Require no client key; requests from web pages are refused
    #[arg(long, conflicts_with = "client_key_file")]
    open: bool,
    /// Also save what is served as a configuration file, which must not exist yet, and beside it gateway.schema.json for editors
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// A small model of the provider at this base URL, if it is a known one.
pub(super) fn usual_model(url: &str) -> Option<&'static str> {
    let host = url.parse::<Uri>().ok()?.host()?.to_owned();
    providers::usual_model(&host)
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "no provider: set the variable with a provider's key, or name a server with --to URL\n{}",
        instructions::variables()
    )]
    NoProvider,
    #[error("{0} is not the base URL of an API: write it as http://localhost:11434/v1 or https://host/v1")]
    Url(&'static str),
    #[error("--to is an endpoint, not a base URL: write {0}")]
    Endpoint(String),
    #[error("--key-env {0}: the variable is not set")]
    KeyNotSet(String),
    #[error(
        "--key-env takes the name of the environment variable that has the key, not the key: write --key-env NAME"
    )]
    KeyInClear,
    #[error("{variable} is set, but {address} is not: set it to the address of your resource")]
    NoAddress {
        /// The variable with the key.
        variable: &'static str,
        /// The variable with the address.
        address: &'static str,
    },
    #[error("{option} {address} is not a loopback address: `run` has no TLS; write 127.0.0.1:{port}, or use a configuration file", port = .address.port())]
    NotLoopback {
        /// The option with the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
    },
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error(
        "{title} requires a key ({detail}); name the environment variable that has it with --key-env NAME"
    )]
    KeyNeeded {
        /// The provider.
        title: String,
        /// What was asked, and the answer.
        detail: String,
    },
    #[error("{title} refuses the key in {variable} ({detail}); check the key")]
    Refused {
        /// The provider.
        title: String,
        /// The variable with the key.
        variable: String,
        /// What was asked, and the answer.
        detail: String,
    },
    #[error("event queue could not be created")]
    Runtime(#[source] io::Error),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("{} exists and is not overwritten: move it, or choose another name", .0.display())]
    Exists(PathBuf),
    #[error("{} exists and is not the schema of gateway.toml: move it, or write to another folder", .0.display())]
    NoSchema(PathBuf),
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Bind(String),
    #[error(transparent)]
    App(AppError),
}

/// Serves until a signal stops it.
pub(super) fn run(options: &RunOptions) -> ExitCode {
    match serve(options) {
        Ok(ended) => super::serve::code(ended),
        Err(error) => super::fail(&error),
    }
}

fn serve(options: &RunOptions) -> Result<Ended, Error> {
    for (option, address) in [("--listen", options.listen), ("--admin", options.admin)] {
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback { option, address });
        }
    }
    if let Some(file) = &options.write {
        writable(file)?;
    }
    let (providers, access) = (providers(options)?, access(options)?);
    let session = Session {
        listen: options.listen,
        tls: None,
        admin: options.admin,
        write: options.write.as_deref(),
        options: &[(options.listen, "--listen"), (options.admin, "--admin")],
        variable: &|name| env::var_os(name),
    };
    if let [only] = &*providers {
        session.serve_one(only, &access)
    } else {
        session.serve_several(&providers, &access)
    }
}

/// Where a run serves, and where its keys are.
pub(super) struct Session<'a> {
    pub(super) listen: SocketAddr,
    /// A listener with TLS, before the other.
    pub(super) tls: Option<Tls<'a>>,
    pub(super) admin: SocketAddr,
    /// Where the configuration is saved.
    pub(super) write: Option<&'a Path>,
    /// The option for each address, for the message that one is in use.
    pub(super) options: &'a [(SocketAddr, &'static str)],
    /// The environment in which keys are looked up.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Session<'_> {
    /// Serves one provider, which is asked when the gateway runs already.
    pub(super) fn serve_one(&self, provider: &Provider, access: &Access) -> Result<Ended, Error> {
        let plan = self.plan(std::slice::from_ref(provider), &[], access);
        let app = self.start(&plan)?;
        let found = greeting::ask(self.configuration(&plan.toml(), plan.providers)?, plan.providers)?;
        if let Some(detail) = found.iter().find_map(|found| found.refused.as_deref()) {
            return Err(refused(provider, detail));
        }
        self.present(app, &plan, &Started { found, not_served: Vec::new(), left_out: 0 })
    }

    /// Serves several providers. What they list decides which model goes to which, so they are asked first.
    fn serve_several(&self, all: &[Provider], access: &Access) -> Result<Ended, Error> {
        let asked = greeting::ask(self.configuration(&file::all_of(all), all)?, all)?;
        let (mut providers, mut found, mut not_served) = (Vec::new(), Vec::new(), Vec::new());
        for (provider, answer) in all.iter().cloned().zip(asked) {
            match answer.refused {
                Some(detail) => not_served.push((provider, detail)),
                None => {
                    providers.push(provider);
                    found.push(answer);
                }
            }
        }
        if let (true, Some((provider, detail))) = (providers.is_empty(), not_served.first()) {
            return Err(refused(provider, detail));
        }
        let listed: Vec<Vec<String>> =
            found.iter_mut().map(|found| std::mem::take(&mut found.models)).collect();
        let Rules { rules, left_out } = models::rules(&providers, &listed);
        let plan = self.plan(&providers, &rules, access);
        let app = self.start(&plan)?;
        self.present(app, &plan, &Started { found, not_served, left_out })
    }

    fn plan<'p>(&'p self, providers: &'p [Provider], rules: &'p [Rule], access: &'p Access) -> Plan<'p> {
        let Self { listen, tls, admin, .. } = *self;
        Plan { listen, tls, admin, providers, rules, access }
    }

    fn start(&self, plan: &Plan<'_>) -> Result<App, Error> {
        let mut config = self.configuration(&plan.toml(), plan.providers)?;
        // What was printed says more than the usual messages.
        config.log.level = tracing::Level::WARN;
        App::start(config, Surroundings::interactive()).map_err(|error| wording::start(self, error))
    }

    /// Saves the configuration if that is wanted, prints what is served, and serves until a signal.
    fn present(&self, app: App, plan: &Plan<'_>, started: &Started) -> Result<Ended, Error> {
        if let Some(file) = self.write {
            write(file, &plan.toml())?;
        }
        super::print(instructions::of(plan, started, app.addresses(), self.write));
        app.run().map_err(Error::App)
    }

    /// Reads the configuration of the run as a file would be read.
    fn configuration(&self, text: &str, providers: &[Provider]) -> Result<Config, Error> {
        let parsed = config::parse(text, &Env::new("", self.variable));
        parsed.map_err(|problems| Error::Config(wording::problems(self, providers, &problems)))
    }
}

fn refused(provider: &Provider, detail: &str) -> Error {
    let (title, detail) = (provider.title.clone(), detail.to_owned());
    match provider.variable.clone() {
        Some(variable) => Error::Refused { title, variable, detail },
        None => Error::KeyNeeded { title, detail },
    }
}

/// What is known of a run once it has started.
#[derive(Debug)]
struct Started {
    /// For each provider that is served.
    found: Vec<Found>,
    /// Providers that refuse their keys, and what they were asked and answered.
    not_served: Vec<(Provider, String)>,
    /// How many models have no rule of their own, because there would be too many.
    left_out: usize,
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The providers to serve; at least one.
fn providers(options: &RunOptions) -> Result<Vec<Provider>, Error> {
    let Some(url) = &options.to else {
        return from_environment(options.listen);
    };
    if !is_base(url) {
        return Err(Error::Url("--to"));
    }
    if let Some(base) = base_of_endpoint(url.path()) {
        let (scheme, authority) =
            (url.scheme_str().unwrap_or_default(), url.authority().map_or("", Authority::as_str));
        return Err(Error::Endpoint(format!("{scheme}://{authority}{base}")));
    }
    if let Some(name) = options.key_env.as_deref().filter(|name| variable(name).is_none()) {
        return Err(if is_variable(name) { Error::KeyNotSet(name.to_owned()) } else { Error::KeyInClear });
    }
    Ok(vec![Provider::at(url, options.key_env.clone())])
}

/// Whether an SDK could be given this base URL.
fn is_base(url: &Uri) -> bool {
    let is_http = url.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
    let is_host = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    is_http && is_host && url.query().is_none()
}

/// The providers whose keys the environment has; at least one.
fn from_environment(listen: SocketAddr) -> Result<Vec<Provider>, Error> {
    let found = providers::in_environment(|name| address_of_another(variable(name)?, listen));
    // One that ends with an operation would get the operation twice.
    let is_sound = |base: Uri| is_base(&base) && base_of_endpoint(base.path()).is_none();
    if let Some(provider) = found.iter().find(|one| !one.base.parse().is_ok_and(is_sound)) {
        return Err(Error::Url(providers::source_of_base(provider)));
    }
    let no_address = providers::without_address(variable)
        .map(|(known, address)| Error::NoAddress { variable: known.variable, address });
    match (found.is_empty(), no_address) {
        (true, no_address) => Err(no_address.unwrap_or(Error::NoProvider)),
        (false, no_address) => {
            if let Some(why) = no_address {
                super::paint::to_stderr(&format!("warning: {why}\n"));
            }
            Ok(found)
        }
    }
}

/// Whether this can be the name of an environment variable, and is probably not a key.
fn is_variable(name: &str) -> bool {
    config::is_name(name) && !name.contains(['-', '.'])
}

/// Reads the value of `--to`.
fn base_url(text: &str) -> Result<Uri, String> {
    text.parse().map_err(|_| {
        "not the base URL of an API: write it as http://localhost:11434/v1 or https://host/v1".to_owned()
    })
}

/// The value of a variable, unless it is the address of this gateway, which programs that use it are given in the same variables.
fn address_of_another(value: String, listen: SocketAddr) -> Option<String> {
    let authority = value.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
    let is_here = authority.is_some_and(|authority| {
        let host = authority.host();
        let is_loopback = host == "localhost" || listen.ip().to_string() == host.trim_matches(['[', ']']);
        is_loopback && authority.port_u16() == Some(listen.port())
    });
    (!is_here).then_some(value)
}

fn access(options: &RunOptions) -> Result<Access, Error> {
    if options.open {
        return Ok(Access::Open);
    }
    Ok(Access::of(options.client_key_file.as_deref(), variable(access::VARIABLE))?)
}

/// The schema's file, in the folder of the configuration.
const SCHEMA: &str = "gateway.schema.json";

/// Whether the configuration may be saved there, before anything is asked or served.
fn writable(file: &Path) -> Result<(), Error> {
    if file.symlink_metadata().is_ok() {
        return Err(Error::Exists(file.to_owned()));
    }
    let schema = file.with_file_name(SCHEMA);
    if schema.exists() && !is_schema(&schema) {
        return Err(Error::NoSchema(schema));
    }
    Ok(())
}

/// Saves the configuration, and beside it its JSON Schema, which the first line names for editors: Taplo and "Even Better TOML" read
/// `#:schema PATH` (taplo.tamasfe.dev, "Using schemas").
fn write(file: &Path, text: &str) -> Result<(), Error> {
    let named = format!("#:schema ./{SCHEMA}\n{text}");
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let written = made.and_then(|mut made| made.write_all(named.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(file.to_owned()),
        _ => Error::Write(file.to_owned(), error),
    })?;
    let schema = file.with_file_name(SCHEMA);
    fs::write(&schema, config::schema_text()).map_err(|error| Error::Write(schema, error))
}

/// Whether the file is a schema that an earlier run or `sluicegate schema` has written.
fn is_schema(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|found| found["title"] == config::schema_json()["title"])
}

#[cfg(test)]
mod tests {
    use super::address_of_another;

    /// A shell in which the gateway is set up for its clients can start it too.
    #[test]
    fn the_gateways_own_address_is_no_providers() {
        let listen = "127.0.0.1:8080".parse().expect("an address");
        for (value, is_another) in [
            ("http://127.0.0.1:8080/v1", false),
            ("http://localhost:8080", false),
            ("http://127.0.0.1:8081/v1", true),
            ("https://api.openai.com/v1", true),
            ("sk-a-key", true),
            ("http://example.com:8080/v1", true),
        ] {
            assert_eq!(address_of_another(value.to_owned(), listen).is_some(), is_another, "{value}");
        }
        let listen = "[::1]:8080".parse().expect("an address");
        assert_eq!(address_of_another("http://[::1]:8080/v1".to_owned(), listen), None);
    }
}
