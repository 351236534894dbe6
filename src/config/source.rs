//! What the file only refers to: secrets and PEM files, from the environment, a file, or a systemd credential.

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
    naming::shown,
    problem::{Complaint, complaint},
    reader::Node,
    schema::Source,
    secret::Secret,
};

/// The most that a file behind a reference may hold, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What a configuration is read against: the folder of its relative paths, and the process environment, which also names
/// the folder of systemd's credentials (`CREDENTIALS_DIRECTORY`, systemd.exec(5)).
pub struct Env<'a> {
    folder: PathBuf,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// What was read, or should have been, in the order of the text; as many as there are references in it.
    visited: RefCell<Visited>,
}

/// The files that a configuration led to, and what was found there.
#[derive(Default)]
struct Visited {
    files: BTreeSet<PathBuf>,
    contents: Option<Context>,
}

impl<'a> Env<'a> {
    /// An environment in which relative paths start at `folder` and variables are what `variable` says.
    pub fn new(folder: impl Into<PathBuf>, variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { folder: folder.into(), variable, visited: RefCell::default() }
    }

    /// The files that were read against it, those that could not be read among them, and a digest of what was in them.
    pub(crate) fn visited(&self) -> (BTreeSet<PathBuf>, Vec<u8>) {
        let Visited { files, contents } = self.visited.take();
        let contents = contents.unwrap_or_else(|| Context::new(&SHA256));
        (files, contents.finish().as_ref().to_vec())
    }

    /// A variable that is set to some text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    }
}

/// What was read, and where.
pub(crate) struct Loaded {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) origin: PathBuf,
}

/// Reads a secret. Written in clear it is refused, and not shown.
pub(crate) fn secret(node: &Node<'_>, env: &Env<'_>) -> Option<Secret> {
    if !node.is_table() {
        node.fail(complaint(
            "a secret is never written in this file",
            r#"write where it is: { env = "NAME" }, { file = "path" }, or { credential = "name" } (systemd)"#,
        ));
        return None;
    }
    let loaded = reference(node, env)?;
    let text = std::str::from_utf8(&loaded.bytes).unwrap_or("\u{fffd}");
    let invalid =
        |why| complaint(format!("the secret cannot be used: {why}"), "a key is one line of visible ASCII");
    node.accept(Secret::new(text).map_err(invalid))
}

/// Reads what a path, written as a string, or a reference leads to.
pub(crate) fn path_or_reference(node: &Node<'_>, env: &Env<'_>) -> Option<Loaded> {
    if node.is_table() {
        return reference(node, env);
    }
    let Some(path) = node.value.as_str() else {
        return node.mistyped(
            "a path, as a string, or a table",
            r#"write "path", { file = "path" }, { env = "NAME" } or { credential = "name" }"#,
        );
    };
    if path.contains("-----BEGIN") {
        node.fail(complaint("is the text of a PEM file", "write the path of the file instead"));
        return None;
    }
    node.accept(from_file(path, env))
}

/// Reads `{ env = … }`, `{ file = … }` or `{ credential = … }`.
fn reference(node: &Node<'_>, env: &Env<'_>) -> Option<Loaded> {
    let table = node.table(Source::NAMES)?;
    let written: Vec<Node<'_>> = Source::NAMES.iter().filter_map(|key| table.get(key)).collect();
    let [one] = written.as_slice() else {
        table.fail(complaint(
            "must say one place to read from",
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
        let help = "write the variable's name, not its value";
        return Err(complaint("is not the name of an environment variable", help));
    }
    let shown = shown(name, "named here");
    let Some(value) = (env.variable)(name) else {
        return Err(complaint(
            format!("the environment variable {shown} is not set"),
            "set it before the start",
        ));
    };
    if value.is_empty() {
        return Err(complaint(
            format!("the environment variable {shown} is empty"),
            "set it before the start",
        ));
    }
    let bytes = Zeroizing::new(value.into_encoded_bytes());
    Ok(Loaded { bytes, origin: PathBuf::from(format!("${name}")) })
}

fn from_credential(name: &str, env: &Env<'_>) -> Result<Loaded, Complaint> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let help = "write the name given in LoadCredential= of the unit";
        return Err(complaint("is not the name of a credential", help));
    }
    let Some(folder) = (env.variable)("CREDENTIALS_DIRECTORY") else {
        return Err(complaint(
            "there are no systemd credentials: $CREDENTIALS_DIRECTORY is not set",
            "start it as a unit with LoadCredential=, or set the variable to the folder of their files",
        ));
    };
    let help = "LoadCredential= of the unit says which file it is";
    visit(Path::new(&folder).join(name), &shown(name, "named here"), help, env)
}

fn from_file(path: &str, env: &Env<'_>) -> Result<Loaded, Complaint> {
    if path.is_empty() {
        return Err(complaint("is an empty path", ""));
    }
    let full = env.folder.join(path);
    let shown = shown(path, "named here");
    visit(full, &shown, "relative paths start at the folder of this file", env)
}

/// Reads a file, and notes that it was.
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

/// The buffer is as long as it will ever be from the start, so that no copy of a secret is left behind by growing.
fn read(path: PathBuf, shown: &str, help: &'static str) -> Result<Loaded, Complaint> {
    let unreadable = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            io::ErrorKind::IsADirectory => "is a directory".to_owned(),
            kind => format!("cannot be read: {kind}"),
        };
        complaint(format!("the file {shown} {why}"), help)
    };
    let file = File::open(&path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(complaint(format!("the file {shown} is larger than 1MiB"), "is it the right one?"));
    }
    let capacity = usize::try_from(length).unwrap_or(0).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Loaded { bytes, origin: path })
}
