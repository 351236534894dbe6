//! What was written in `gateway.toml`, found sound.
//!
//! [`load`] reads the file whole: it knows every key, inherits what `[defaults]` says, resolves names, fetches secrets and certificates,
//! and tells **every** problem at once, each with its path, its place and a remedy. What comes out, a [`Config`], is not
//! checked again by anything.
//!
//! A value of the file is never quoted in a problem, unless it is a short name: it may be a key that was pasted in the wrong place.

mod certificate;
mod check;
mod declare;
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
mod url;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use toml::de::DeTable;

pub use self::{
    declare::{DefaultValue, Effect, Inheritance, Key, Meta, Secrecy, Shape},
    fixed::Fixed,
    generate::{reference, sample, schema_json},
    naming::{MAX_NAME, is_name},
    network::InvalidNetwork,
    problem::{Problem, Problems},
    schema::{
        Admin, Auth, Balance, Breaker, BreakerOverride, Certificate, Choice, Client, ClientAddress, Commit,
        Config, Delivery, Drain, EgressProxy, HashBy, HeaderRules, Listener, ListenerTls, Log, LogFormat,
        Network, OnDisconnect, Pool, Retry, RetryOverrides, Route, Server, Target, TimeoutOverrides,
        Timeouts, Upstream, UpstreamTls,
    },
    secret::{InvalidKeyHash, InvalidSecret, KeyHash, Secret},
    source::Env,
    watch::{Bell, Occasion, Watch},
};
use self::{declare::Keys as _, problem::complaint, reader::Table, report::Report, schema::Root};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

const NOT_TOML: &str = "until this is put right, the rest of the file cannot be read";

/// A file that holds a configuration, and the environment that it is read against.
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
    /// The file and all that it names, whether or not they could be read: a change of any of them may change the outcome.
    pub files: BTreeSet<PathBuf>,
    /// Equal for two readings that found the same.
    pub digest: Vec<u8>,
}

impl Source {
    /// `file` against the process environment.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self::with(file, |name| std::env::var_os(name))
    }

    /// `file` against variables that are what `variable` says.
    pub fn with(file: impl Into<PathBuf>, variable: fn(&str) -> Option<OsString>) -> Self {
        Self { file: file.into(), variable }
    }

    /// The file's path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file and all that it names. Blocks.
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

/// Reads the file against the process environment. Blocks: it reads files.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Problems> {
    Source::new(path).read().config
}

/// Reads a file's text against an environment of the caller's choice.
///
/// # Errors
/// Everything that is wrong with it, in the text's order; at least one problem.
pub fn parse(text: &str, env: &Env<'_>) -> Result<Config, Vec<Problem>> {
    let report = Report::new(text);
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let span = error.span().unwrap_or_default();
            let written = text.get(span.clone()).unwrap_or_default();
            let complaint = match error.message() {
                "duplicate key" => {
                    let name = naming::shown(written, "this name");
                    complaint(format!("{name} is defined twice: it stands further up as well"), NOT_TOML)
                }
                message => complaint(message.to_owned(), NOT_TOML),
            };
            return Err(vec![report.place("", span.start, complaint)]);
        }
    };
    let root = Table::root(document.get_ref(), Root::NAMES, &report);
    let config = check::config(&root, env, redact::table(document.get_ref()));
    drop(root);
    report.finish().map(|warnings| Config { warnings, ..config })
}

fn read(path: &Path) -> Result<String, Problem> {
    let whole = |message: String, help: &'static str| Problem {
        path: String::new(),
        line: 1,
        column: 1,
        message: message.into(),
        help: Cow::Borrowed(help),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    file.map_err(|error| {
        whole(format!("the file cannot be read: {error}"), "`--config PATH` names another")
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(whole("the file is larger than 4MiB".to_owned(), "is it the right one?"));
    }
    String::from_utf8(bytes).map_err(|_| whole("the file is not UTF-8".to_owned(), "TOML is UTF-8"))
}
