//! `run`: the gateway in front of a real provider, without a configuration file.

mod access;
mod file;
mod instructions;
mod providers;

use std::{
    env,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use http::Uri;
use serde_json::Value;

use crate::{
    app::{App, AppError, Ended, Surroundings},
    cli::probe::{self, KeyAnswer, TargetReport},
    config::{self, Config, Env, Problems},
    snapshot::Snapshot,
};
use access::Access;
use file::Plan;
use providers::{InEnvironment, Provider};

/// What `run` serves, and where.
#[derive(Debug, Args)]
pub(super) struct RunOptions {
    /// Base URL of the provider, as an SDK would be given it; for example a local vLLM, Ollama or llama.cpp
    #[arg(long, value_name = "URL")]
    to: Option<Uri>,
    /// Environment variable with the provider's key, for --to (a local server needs none)
    #[arg(long, value_name = "NAME", requires = "to")]
    key_env: Option<String>,
    /// Listen address, without TLS; loopback only
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Listen address of the admin listener: /healthz, /readyz, /metrics, /status, /config
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901")]
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
enum Error {
    #[error(
        "no provider: set the variable with a provider's key, or name a server with --to URL\n{}",
        instructions::variables()
    )]
    NoProvider,
    #[error(
        "--to {0} is not the base URL of an API: write it as http://localhost:11434/v1 or https://host/v1"
    )]
    Url(Uri),
    #[error("--key-env {0}: the variable is not set")]
    KeyNotSet(String),
    #[error("{option} {address} is not a loopback address: `run` has no TLS; write 127.0.0.1:{port}, or use a configuration file", port = .address.port())]
    NotLoopback {
        /// The option with the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
    },
    #[error(transparent)]
    Access(#[from] access::Error),
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
    #[error("{} exists and is not the schema of gateway.toml: move it, or write to another folder", .0.display())]
    NoSchema(PathBuf),
    #[error(transparent)]
    Config(#[from] Problems),
    #[error("choose another address with {1}")]
    Bind(#[source] AppError, &'static str),
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
    let InEnvironment { served: providers, left_out } = providers(options)?;
    let access = access(options)?;
    let (listen, admin) = (options.listen, options.admin);
    let plan = Plan { listen, tls: None, admin, providers: &providers, access: &access };
    let text = plan.toml();
    let config = configuration(&text)?;
    let app = App::start(config, Surroundings::interactive()).map_err(|error| named(error, options))?;
    let found = greet(configuration(&text)?, &providers)?;
    if let Some(file) = &options.write {
        write(file, &text)?;
    }
    let address = app.addresses().first().copied().unwrap_or(listen);
    super::print(instructions::of(
        &plan,
        &Started { address, written: options.write.as_deref(), found, left_out },
    ));
    app.run().map_err(Error::App)
}

/// What is known of a run once it has started.
#[derive(Debug)]
struct Started<'a> {
    address: SocketAddr,
    /// The configuration file that was saved.
    written: Option<&'a Path>,
    /// For each provider.
    found: Vec<Found>,
    /// Providers whose keys are in the environment, and which are not served.
    left_out: Vec<Provider>,
}

/// What a provider has said at the start.
#[derive(Debug)]
struct Found {
    /// Whether its key is accepted, in words.
    state: String,
    /// A model that it has.
    model: Option<String>,
}

/// How long each step of asking may take: the gateway serves meanwhile, but its commands are printed afterwards.
const GREETING: Duration = Duration::from_secs(3);

/// Asks each provider for its models, with its key. One that cannot be reached now may be reached later; a refused key is an error.
fn greet(config: Config, providers: &[Provider]) -> Result<Vec<Found>, Error> {
    let snapshot = Snapshot::compile(config, None).map_err(|error| Error::App(error.into()))?;
    let runtime = probe::runtime().map_err(Error::Runtime)?;
    let subjects = probe::subjects(&snapshot, GREETING);
    let asked: Vec<_> = subjects.iter().map(|subject| runtime.block_on(probe::ask(subject, None))).collect();
    let of = |provider: &Provider| {
        let report = asked.iter().find(|report| report.upstream == provider.name);
        report.map_or_else(
            || Ok(Found { state: "not asked".to_owned(), model: None }),
            |report| found(provider, report),
        )
    };
    providers.iter().map(of).collect()
}

fn found(provider: &Provider, report: &TargetReport) -> Result<Found, Error> {
    if let Some((step, error)) = report.steps.iter().find_map(|step| Some((step.name, step.error.as_ref()?)))
    {
        return Ok(Found { state: format!("cannot be reached now ({step}: {error})"), model: None });
    }
    let Some(key) = report.keys.first() else {
        return Ok(Found { state: "not asked".to_owned(), model: None });
    };
    let state = match key.verdict {
        KeyAnswer::Refused => {
            let variable = provider.variable.clone().unwrap_or_else(|| "--key-env".to_owned());
            return Err(Error::Refused {
                title: provider.title.clone(),
                variable,
                detail: key.detail.clone(),
            });
        }
        KeyAnswer::Accepted => "accepts the key".to_owned(),
        KeyAnswer::NoneNeeded => "needs no key".to_owned(),
        KeyAnswer::CannotTell => {
            "answers; whether it accepts the key shows with the first request".to_owned()
        }
        KeyAnswer::Failed => format!("fails now ({})", key.detail),
    };
    let usual = provider.model.filter(|model| key.models.iter().any(|listed| listed == model));
    Ok(Found { state, model: usual.map(str::to_owned).or_else(|| key.models.first().cloned()) })
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The providers to serve; at least one.
fn providers(options: &RunOptions) -> Result<InEnvironment, Error> {
    let Some(url) = &options.to else {
        let found = providers::in_environment(variable);
        return if found.served.is_empty() { Err(Error::NoProvider) } else { Ok(found) };
    };
    let is_base = url.scheme().is_some() && url.authority().is_some() && url.query().is_none();
    if !is_base {
        return Err(Error::Url(url.clone()));
    }
    if let Some(name) = options.key_env.as_deref().filter(|name| variable(name).is_none()) {
        return Err(Error::KeyNotSet(name.to_owned()));
    }
    let served = vec![Provider::at(url, options.key_env.clone())];
    Ok(InEnvironment { served, left_out: Vec::new() })
}

fn access(options: &RunOptions) -> Result<Access, Error> {
    if options.open {
        return Ok(Access::Open);
    }
    Ok(Access::of(options.client_key_file.as_deref(), variable(access::VARIABLE))?)
}

/// Reads the configuration of the run as a file would be read.
fn configuration(text: &str) -> Result<Config, Problems> {
    let variable = |name: &str| -> Option<OsString> { env::var_os(name) };
    let parsed = config::parse(text, &Env::new("", &variable));
    parsed.map_err(|problems| Problems { file: PathBuf::from("the configuration of this run"), problems })
}

/// Names the option for another address if the error is about an address.
fn named(error: AppError, options: &RunOptions) -> Error {
    let AppError::Bind(bind) = &error else { return Error::App(error) };
    let option = if bind.address() == options.admin { "--admin" } else { "--listen" };
    Error::Bind(error, option)
}

/// The schema's file, in the folder of the configuration.
const SCHEMA: &str = "gateway.schema.json";

/// Saves the configuration, and beside it its JSON Schema, which the first line names for editors: Taplo and "Even Better TOML" read
/// `#:schema PATH` (taplo.tamasfe.dev, "Using schemas").
fn write(file: &Path, text: &str) -> Result<(), Error> {
    let named = format!("#:schema ./{SCHEMA}\n{text}");
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let written = made.and_then(|mut made| made.write_all(named.as_bytes()));
    written.map_err(|error| Error::Write(file.to_owned(), error))?;
    let schema = file.with_file_name(SCHEMA);
    if schema.exists() && !is_schema(&schema) {
        return Err(Error::NoSchema(schema));
    }
    fs::write(&schema, config::schema_text()).map_err(|error| Error::Write(schema, error))
}

/// Whether the file is a schema that an earlier run or `sluicegate schema` has written.
fn is_schema(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|found| found["title"] == config::schema_json()["title"])
}
