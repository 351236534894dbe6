//! The configuration: `gateway.toml`, read and checked.
//!
//! [`load`] reads the whole file: it checks every key, applies inheritance, resolves names, reads secrets and certificates, and reports
//! **all** problems at once, each with its key, its position and how to fix it. The result, a [`Config`], is not checked again.
//!
//! Each key is declared once, in `schema`; `declare` describes how.
//!
//! Problems never quote a value of the file, except for short names: the value may be a key that was pasted in the wrong place.

mod certificate;
mod check;
mod client_files;
mod declare;
mod expiry;
mod fixed;
mod generate;
mod headers;
mod naming;
mod network;
mod problem;
mod reader;
mod redact;
mod report;
pub mod schema;
pub mod secret;
mod size;
mod source;
pub(crate) mod span;
mod split;
mod url;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use toml::de::DeTable;

pub use self::{
    client_files::{ClientChange, ClientFiles, ClientFilesReport, ClientScope, FileProblem},
    declare::{DefaultValue, Effect, Inheritance, Key, Meta, Secrecy, Shape},
    expiry::EXPIRES_SOON,
    fixed::Fixed,
    generate::{reference, sample, schema_json, schema_text},
    naming::{MAX_NAME, is_name},
    network::InvalidNetwork,
    problem::{Problem, Problems},
    schema::{
        Admin, AskForUsage, Auth, Azure, Balance, Breaker, BreakerOverride, Burst, Certificate, Choice,
        Client, ClientAddress, Commit, Config, Cors, Delivery, Deployment, Drain, Each, EgressProxy,
        Exhausted, Export, Group, HashBy, HeaderRules, IncludeUsage, KeyAccount, Limit, Listener,
        ListenerTls, Log, LogFormat, Model, ModelList, ModelPrices, ModelTables, ModelUpstreams, Network,
        OnDisconnect, OnRevoke, Otlp, Per, Pool, Preset, PriceTier, Pricing, Redis, RedisAddress,
        RedisServers, RedisTls, Retry, RetryOverrides, Route, SameCandidate, Semconv, Sending, Sentinel,
        Server, SetHeader, Tag, Target, TimeoutLimits, TimeoutOverrides, Timeouts, TokenWeights,
        UnknownPrice, Upstream, UpstreamTls,
    },
    secret::{InvalidKeyHash, InvalidSecret, KeyHash, Secret},
    source::Env,
    watch::{ClientEvents, ConfigWatch, ReloadReason, ReloadTrigger},
};
use self::{declare::Keys as _, problem::complaint, reader::Table, report::Report, schema::Root};

/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 4 << 20;

const NOT_TOML: &str = "fix this first: until then, the rest of the file cannot be checked";

/// A configuration file, and the environment in which it is read.
#[derive(Debug, Clone)]
pub struct Source {
    file: PathBuf,
    variable: fn(&str) -> Option<OsString>,
}

/// One reading of a [`Source`].
#[derive(Debug)]
pub struct Reading {
    /// The configuration, or everything that is wrong with it.
    pub config: Result<Config, Problems>,
    /// The file and all files to which it refers, including those that could not be read: a change of any of them may change the result.
    pub files: BTreeSet<PathBuf>,
    /// Equal for two readings that found the same contents.
    pub digest: Vec<u8>,
}

impl Source {
    /// `file`, read in the environment of the process.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self::with(file, |name| std::env::var_os(name))
    }

    /// `file`, read in an environment in which `variable` returns the value of a variable.
    pub fn with(file: impl Into<PathBuf>, variable: fn(&str) -> Option<OsString>) -> Self {
        Self { file: file.into(), variable }
    }

    /// The file's path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file and all files to which it refers. Blocks.
    pub fn read(&self) -> Reading {
        let file = &self.file;
        let refuse = |problems| Problems { file: file.clone(), problems };
        let mut digest = Context::new(&SHA256);
        let env = Env::new(file.parent().unwrap_or(Path::new("")), &self.variable);
        let config = match read(file) {
            Ok(text) => {
                digest.update(text.as_bytes());
                parse(&text, &env).map_err(refuse)
            }
            Err(problem) => {
                digest.update(problem.message.as_bytes());
                Err(refuse(vec![problem]))
            }
        };
        let (mut files, contents) = env.visited();
        files.insert(file.clone());
        digest.update(&contents);
        Reading { config, files, digest: digest.finish().as_ref().to_vec() }
    }
}

/// Reads the file in the environment of the process. Blocks: it reads files.
///
/// # Errors
/// All problems of the file.
pub fn load(path: &Path) -> Result<Config, Problems> {
    Source::new(path).read().config
}

/// The address of the admin listener that a file names; `None` without an `[admin]` table. Mistakes elsewhere in the file do not matter.
///
/// # Errors
/// The file cannot be read, is not TOML, or its address is invalid.
pub fn admin_address(path: &Path) -> Result<Option<SocketAddr>, Problems> {
    let refuse = |problems| Problems { file: path.to_owned(), problems };
    let text = read(path).map_err(|problem| refuse(vec![problem]))?;
    let report = Report::new(&text);
    let document = DeTable::parse(&text).map_err(|error| refuse(vec![not_toml(&error, &text, &report)]))?;
    let root = Table::root(document.get_ref(), Root::NAMES, &report);
    let Some(address) = root.get("admin").and_then(|admin| admin.child("address")) else { return Ok(None) };
    if let Some(address) = address.parse(schema::address) {
        return Ok(Some(address));
    }
    drop(root);
    let mut problems = report.finish().err().unwrap_or_default();
    problems.retain(|problem| problem.path == "admin.address");
    Err(refuse(problems))
}

/// What the issuing of a client's key needs to know of a configuration.
#[derive(Debug)]
pub struct ClientIssue {
    /// The directory of the clients' files; `None` without `[client_files]`.
    pub directory: Option<PathBuf>,
    /// The line of the file in which the client is defined already.
    pub defined: Option<usize>,
    /// Whether the group that was asked for is defined.
    pub has_group: bool,
}

/// What the issuing of a key to the client `name`, of `group`, needs to know of a configuration. Mistakes elsewhere in the file do not matter.
///
/// # Errors
/// The file cannot be read, or is not TOML.
pub fn client_issue(path: &Path, name: &str, group: Option<&str>) -> Result<ClientIssue, Problems> {
    let refuse = |problems| Problems { file: path.to_owned(), problems };
    let text = read(path).map_err(|problem| refuse(vec![problem]))?;
    let report = Report::new(&text);
    let document = DeTable::parse(&text).map_err(|error| refuse(vec![not_toml(&error, &text, &report)]))?;
    let root = Table::root(document.get_ref(), Root::NAMES, &report);
    let within = |table: &'static str, name: &str| root.get(table).and_then(|table| table.child(name));
    let directory = within("client_files", "directory");
    let directory = directory.as_ref().and_then(|node| node.value.as_str());
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(ClientIssue {
        directory: directory.map(|directory| folder.join(directory)),
        defined: within("client", name).map(|node| node.line()),
        has_group: group.is_none_or(|group| within("group", group).is_some()),
    })
}

/// Reads the text of a file in a given environment.
///
/// # Errors
/// All problems of the text, in their order; at least one.
pub fn parse(text: &str, env: &Env<'_>) -> Result<Config, Vec<Problem>> {
    let report = Report::new(text);
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => return Err(vec![not_toml(&error, text, &report)]),
    };
    let root = Table::root(document.get_ref(), Root::NAMES, &report);
    let config = check::config(&root, env, redact::table(document.get_ref()));
    drop(root);
    report.finish().map(|warnings| Config { warnings, ..config })
}

fn not_toml(error: &toml::de::Error, text: &str, report: &Report<'_>) -> Problem {
    let span = error.span().unwrap_or_default();
    let written = text.get(span.clone()).unwrap_or_default();
    let complaint = match error.message() {
        "duplicate key" => {
            let name = naming::shown(written, "a name");
            complaint(format!("{name} is defined twice: the first definition is further up"), NOT_TOML)
        }
        message => match unquoted(text, span.start) {
            Some(help) => complaint("text needs quotes", help),
            None => complaint(message.to_owned(), NOT_TOML),
        },
    };
    report.place("", span.start, complaint)
}

/// The help for a word that was written without quotes.
fn unquoted(text: &str, offset: usize) -> Option<String> {
    let line_start = text.get(..offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_word = !["true", "false", "inf", "nan"].contains(&value)
        && value.starts_with(|first: char| first.is_ascii_alphabetic())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let is_shown = is_word && !naming::looks_secret(value) && !naming::looks_secret(key.trim());
    is_shown.then(|| format!("write {} = {value:?}; {NOT_TOML}", key.trim()))
}

fn read(path: &Path) -> Result<String, Problem> {
    let whole = |message: String, help: &'static str| Problem {
        path: String::new(),
        line: 0,
        column: 0,
        message: message.into(),
        help: Cow::Borrowed(help),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    file.map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => {
                "name another file with `--config PATH`; no file yet? `sluicegate run` and `sluicegate demo` need none"
            }
            _ => "check the path and its permissions, or name another file with `--config PATH`",
        };
        whole(format!("the file cannot be read: {error}"), help)
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(whole("the file is larger than 4MiB".to_owned(), "check that it is the right file"));
    }
    String::from_utf8(bytes).map_err(|_| whole("the file is not UTF-8".to_owned(), "save it as UTF-8"))
}
