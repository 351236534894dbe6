//! Secrets and PEM files to which the configuration refers: from the environment, a file, or a systemd credential.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{
    declare::Keys as _,
    naming::{looks_secret, shown},
    problem::{Complaint, complaint},
    reader::{Node, Table},
    schema::{Source, UpstreamKey},
    secret::{InvalidSecret, Secret},
};

/// Maximum size of a file that is referred to, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The environment in which a configuration is read: the folder where relative paths start, and the environment variables, which also
/// name the folder of systemd's credentials (`CREDENTIALS_DIRECTORY`, systemd.exec(5)).
pub struct Env<'a> {
    folder: PathBuf,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Files that were read, or could not be read; at most one for each reference in the text.
    visited: RefCell<Visited>,
}

/// The files to which a configuration refers, and a digest of their contents.
#[derive(Default)]
struct Visited {
    files: BTreeSet<PathBuf>,
    contents: Option<Context>,
}

impl<'a> Env<'a> {
    /// An environment in which relative paths start at `folder` and `variable` returns the value of a variable.
    pub fn new(folder: impl Into<PathBuf>, variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { folder: folder.into(), variable, visited: RefCell::default() }
    }

    /// The folder where relative paths start.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files to which the configuration referred, including those that could not be read, and a digest of their contents.
    pub(crate) fn visited(&self) -> (BTreeSet<PathBuf>, Vec<u8>) {
        let Visited { files, contents } = self.visited.take();
        let contents = contents.unwrap_or_else(|| Context::new(&SHA256));
        (files, contents.finish().as_ref().to_vec())
    }

    /// The value of a variable, unless it is empty or not set.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    }
}

/// The content of a file or variable, and where it was read from.
pub(crate) struct Loaded {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) origin: PathBuf,
    /// The same in words, for a message.
    described: String,
}

/// Reads a key, a token or a password. A secret in clear is rejected and not shown.
pub(crate) fn secret(node: &Node<'_>, env: &Env<'_>) -> Option<Secret> {
    secret_from(node, Source::NAMES, env)
}

/// Reads the key of an upstream, beside which its account may stand.
pub(crate) fn upstream_key(node: &Node<'_>, env: &Env<'_>) -> Option<Secret> {
    secret_from(node, UpstreamKey::NAMES, env)
}

/// Reads a secret from a table that may have the keys `known`.
fn secret_from(node: &Node<'_>, known: &'static [&'static str], env: &Env<'_>) -> Option<Secret> {
    if !node.is_table() {
        if let Some(name) = node.value.as_str().and_then(variable_of) {
            node.fail(complaint(
                "names a variable as another program does",
                format!("write {{ env = {name:?} }}"),
            ));
            return None;
        }
        node.fail(complaint(
            "is a secret in clear, which must not be written in this file",
            r#"say where to read it from: { env = "NAME" }, { file = "path" }, or { credential = "name" } (systemd)"#,
        ));
        return None;
    }
    let loaded = reference(&node.table(known)?, env)?;
    accepted(node, loaded, Secret::new)
}

/// The variable in `os.environ/NAME` (LiteLLM's configuration), `$NAME` or `${NAME}`.
fn variable_of(text: &str) -> Option<&str> {
    let braced = || text.strip_prefix("${")?.strip_suffix('}');
    let name = text.strip_prefix("os.environ/").or_else(braced).or_else(|| text.strip_prefix('$'))?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (is_name && !name.is_empty() && !looks_secret(name)).then_some(name)
}

/// Reads the value of a header from where `node`, a table, says.
pub(crate) fn header_value(node: &Node<'_>, env: &Env<'_>) -> Option<Secret> {
    let loaded = reference(&node.table(Source::NAMES)?, env)?;
    accepted(node, loaded, Secret::header_value)
}

fn accepted(
    node: &Node<'_>,
    loaded: Loaded,
    read: impl Fn(&[u8]) -> Result<Secret, InvalidSecret>,
) -> Option<Secret> {
    let Loaded { bytes, described, .. } = loaded;
    let invalid =
        |why: InvalidSecret| complaint(format!("refers to an invalid secret: {described} {why}"), why.help());
    node.accept(read(&bytes).map_err(invalid))
}

/// Reads the file at a path, written as a string, or the target of a reference.
pub(crate) fn path_or_reference(node: &Node<'_>, env: &Env<'_>) -> Option<Loaded> {
    if node.is_table() {
        return reference(&node.table(Source::NAMES)?, env);
    }
    let Some(path) = node.value.as_str() else {
        return node.mistyped(
            "a path, as a string, or a table",
            r#"write "path", { file = "path" }, { env = "NAME" } or { credential = "name" }"#,
        );
    };
    if path.contains("-----BEGIN") {
        node.fail(complaint("is the content of a PEM file", "write the path of the file instead"));
        return None;
    }
    node.accept(from_file(path, env))
}

/// Reads `{ env = … }`, `{ file = … }` or `{ credential = … }`.
fn reference(table: &Table<'_>, env: &Env<'_>) -> Option<Loaded> {
    let written: Vec<Node<'_>> = Source::NAMES.iter().filter_map(|key| table.get(key)).collect();
    let [one] = written.as_slice() else {
        table.fail(complaint(
            "must have exactly one of the keys `env`, `file` and `credential`",
            r#"write { env = "NAME" }, { file = "path" }, or { credential = "name" }"#,
        ));
        return None;
    };
    let text = one.string()?;
    one.accept(match () {
        () if table.get("env").is_some() => from_variable(text, env),
        () if table.get("file").is_some() => from_file(text, env),
        () => from_credential(text, env),
    })
}

fn from_variable(name: &str, env: &Env<'_>) -> Result<Loaded, Complaint> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(word) || name.starts_with(|first: char| first.is_ascii_digit()) {
        let help = "write the name of the variable, not its value";
        return Err(complaint("is not a valid name of an environment variable", help));
    }
    let shown = shown(name, "named here");
    let Some(value) = (env.variable)(name) else {
        return Err(complaint(
            format!("the environment variable {shown} is not set"),
            "set it before starting the gateway",
        ));
    };
    if value.is_empty() {
        return Err(complaint(
            format!("the environment variable {shown} is empty"),
            "set it before starting the gateway",
        ));
    }
    let bytes = Zeroizing::new(value.into_encoded_bytes());
    let described = format!("the environment variable {shown}");
    Ok(Loaded { bytes, origin: PathBuf::from(format!("${name}")), described })
}

fn from_credential(name: &str, env: &Env<'_>) -> Result<Loaded, Complaint> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let help = "write the name from LoadCredential= of the unit";
        return Err(complaint("is not a valid name of a systemd credential", help));
    }
    let Some(folder) = (env.variable)("CREDENTIALS_DIRECTORY") else {
        return Err(complaint(
            "refers to a systemd credential, but $CREDENTIALS_DIRECTORY is not set",
            "start the gateway as a systemd unit with LoadCredential=, or set the variable to the folder of the credentials",
        ));
    };
    let help = "check LoadCredential= of the unit";
    visit(Path::new(&folder).join(name), &shown(name, "named here"), help, env)
}

/// Reads the file at `path`.
pub(crate) fn from_file(path: &str, env: &Env<'_>) -> Result<Loaded, Complaint> {
    if path.is_empty() {
        return Err(complaint("is an empty path", "write the path of a file"));
    }
    let full = env.folder.join(path);
    let shown = shown(path, "named here");
    visit(full, &shown, "check the path: relative paths start at the folder of the configuration file", env)
}

/// Reads a file, and remembers that it was read.
fn visit(path: PathBuf, shown: &str, help: &'static str, env: &Env<'_>) -> Result<Loaded, Complaint> {
    let read = read(path.clone(), shown, help);
    let mut visited = env.visited.borrow_mut();
    let contents = visited.contents.get_or_insert_with(|| Context::new(&SHA256));
    let (kind, found): (u8, &[u8]) = match &read {
        Ok(loaded) => (b'+', &loaded.bytes),
        Err(complaint) => (b'-', complaint.message.as_bytes()),
    };
    contents.update(&[kind]);
    contents.update(&found.len().to_le_bytes());
    contents.update(found);
    visited.files.insert(path);
    read
}

/// The buffer has its final size from the start, so that no copy of a secret is left in memory by growing it.
fn read(path: PathBuf, shown: &str, help: &'static str) -> Result<Loaded, Complaint> {
    let unreadable = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "cannot be read by this user (permission denied)".to_owned(),
            io::ErrorKind::IsADirectory => "is a directory".to_owned(),
            kind => format!("cannot be read: {kind}"),
        };
        complaint(format!("the file {shown} {why}"), help)
    };
    let file = File::open(&path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(complaint(
            format!("the file {shown} is larger than 1MiB"),
            "check that it is the right file",
        ));
    }
    let capacity = usize::try_from(length).unwrap_or(0).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Loaded { bytes, origin: path, described: format!("the file {shown}") })
}
