//! Clients that have files of their own, in the directory that `[client_files]` names.
//!
//! `NAME.toml` has the keys of `[client.NAME]`. A file is read when it changes, and no other file then. A file with a mistake changes nothing:
//! its client keeps what the last good file gave it, and the mistake is reported until the file is good or gone.

mod file;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::file::{DirectoryId, FileError, Stamp, client_name};
use toml::de::DeTable;

use super::{
    Env, Problem,
    declare::{Context, Declared as _, Keys as _, Names},
    naming::shown,
    not_toml,
    reader::Table,
    report::Report,
    schema::{Client, Config, Defaults},
};

/// Most files of one directory. Beyond it, files are not used.
const MOST: usize = 1_000_000;

/// Broken files that a report lists.
const LISTED: usize = 100;

/// The files of clients, as they were read last. Holds a name and a few numbers for each file, at most for [`MOST`].
#[derive(Debug)]
pub struct ClientFiles {
    directory: PathBuf,
    scope: ClientScope,
    /// What is known of each file that gives a client, or would without its mistakes; by the name of the client. `None`: to be read again whenever
    /// the directory is searched.
    files: HashMap<Arc<str>, Option<Stamp>>,
    /// Files that cannot be used, by their names.
    broken: BTreeMap<OsString, BrokenFile>,
    /// Files that are used and have something in them that is probably a mistake, by the names of their clients.
    doubtful: BTreeMap<Arc<str>, DoubtfulFile>,
    /// Why the directory cannot be read.
    unreadable: Option<String>,
    /// Number of files read since the start.
    reads: u64,
}

/// A client that a file gives, or takes away.
#[derive(Debug)]
pub struct ClientChange {
    /// Name of the client.
    pub name: Arc<str>,
    /// The client; `None` if its file is gone.
    pub client: Option<Box<Client>>,
}

/// The names that clients may refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientScope {
    routes: BTreeSet<Arc<str>>,
    groups: BTreeSet<Arc<str>>,
    limits: BTreeSet<Arc<str>>,
}

/// A file that cannot be used.
#[derive(Debug)]
struct BrokenFile {
    problem: String,
    /// The client with which the file is in conflict: when that one changes, the file is read again.
    blocked_by: Option<Arc<str>>,
    /// Not reported to the log yet.
    is_new: bool,
}

/// A file with warnings.
#[derive(Debug)]
struct DoubtfulFile {
    /// One line each.
    warnings: Box<[String]>,
    /// Not reported to the log yet.
    is_new: bool,
}

/// The state of the files, for operators.
#[derive(Debug, Clone, Default)]
pub struct ClientFilesReport {
    /// The directory.
    pub directory: PathBuf,
    /// Number of files, broken ones included.
    pub files: usize,
    /// Number of files that cannot be used.
    pub broken: usize,
    /// The first 100 of these in the order of the alphabet, with what is wrong.
    pub listed: Vec<FileProblem>,
    /// Number of files with warnings.
    pub doubtful: usize,
    /// The warnings of the first 100 of these.
    pub warnings: Vec<FileProblem>,
    /// Why the directory cannot be read.
    pub unreadable: Option<String>,
    /// Number of files read since the start.
    pub reads: u64,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The file, as far as its name may be shown.
    pub file: String,
    /// One line.
    pub problem: String,
}

impl ClientScope {
    /// The names that `config` defines.
    pub fn of(config: &Config) -> Self {
        Self {
            routes: config.routes.keys().cloned().collect(),
            groups: config.groups.keys().cloned().collect(),
            limits: config.limits.keys().cloned().collect(),
        }
    }

    /// Whether every name of `other` is defined here too.
    fn covers(&self, other: &Self) -> bool {
        self.routes.is_superset(&other.routes)
            && self.groups.is_superset(&other.groups)
            && self.limits.is_superset(&other.limits)
    }

    fn names(&self) -> Names<'_> {
        Names {
            upstreams: Vec::new(),
            routes: self.routes.iter().map(|name| &**name).collect(),
            clients: Vec::new(),
            groups: self.groups.iter().map(|name| &**name).collect(),
            limits: self.limits.iter().map(|name| &**name).collect(),
            has_client_files: true,
        }
    }
}

impl ClientFiles {
    /// The files of a directory, none of which has been read yet.
    pub fn new(directory: PathBuf, scope: ClientScope) -> Self {
        Self {
            directory,
            scope,
            files: HashMap::new(),
            broken: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            unreadable: None,
            reads: 0,
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Uses other names from now on. Files that this may concern are read when the directory is searched next: all, if a name is not defined any
    /// more, and else those that are broken.
    pub fn rescope(&mut self, scope: ClientScope) {
        if scope == self.scope {
            return;
        }
        if scope.covers(&self.scope) {
            self.forget_broken();
        } else {
            self.forget_all();
        }
        self.scope = scope;
    }

    /// Has the file of a client read when the directory is searched next.
    pub fn forget(&mut self, name: &str) {
        if let Some(stamp) = self.files.get_mut(name) {
            *stamp = None;
        }
    }

    /// Searches the directory, and reads the files that have changed since they were read. A directory that cannot be read changes nothing.
    pub fn search(&mut self) -> Vec<ClientChange> {
        match self.listing() {
            Ok(files) => {
                self.unreadable = None;
                self.read(files)
            }
            Err(error) => {
                let problem = format!("the directory cannot be read: {error}");
                if self.unreadable.as_ref() != Some(&problem) {
                    let directory = self.directory.display();
                    tracing::error!(%directory, "client files: {problem}; all clients stay as they were");
                }
                self.unreadable = Some(problem);
                Vec::new()
            }
        }
    }

    /// Reads these files, whether or not they have changed.
    pub fn read(&mut self, files: BTreeSet<OsString>) -> Vec<ClientChange> {
        if files.is_empty() {
            return Vec::new();
        }
        let directory = DirectoryId::of(&self.directory);
        let scope = std::mem::take(&mut self.scope);
        let names = scope.names();
        let env = Env::new(&self.directory, &|_| None);
        let context =
            Context { env: &env, names: &names, defaults: Defaults::default(), retries: BTreeMap::new() };
        let changes = files.into_iter().filter_map(|file| self.consider(file, directory, &context)).collect();
        drop(names);
        self.scope = scope;
        changes
    }

    /// Notes that the file of a client cannot be used, because it is in conflict with another client.
    pub fn refuse(&mut self, name: &str, problem: String, blocked_by: Arc<str>) {
        self.breaks(OsString::from(format!("{name}.toml")), problem, Some(blocked_by));
    }

    /// Has all broken files read when the directory is searched next.
    pub fn forget_broken(&mut self) {
        let broken: Vec<Arc<str>> = self.broken.keys().filter_map(|file| client_name(file)).collect();
        broken.iter().for_each(|name| self.forget(name));
    }

    /// Has all files read when the directory is searched next.
    pub fn forget_all(&mut self) {
        self.files.values_mut().for_each(|stamp| *stamp = None);
    }

    /// The files that were in conflict with one of these clients, to be read again after they have changed.
    pub fn blocked_by(&self, names: &BTreeSet<Arc<str>>) -> BTreeSet<OsString> {
        let is_free = |broken: &BrokenFile| broken.blocked_by.as_ref().is_some_and(|by| names.contains(by));
        self.broken.iter().filter(|(_, broken)| is_free(broken)).map(|(file, _)| file.clone()).collect()
    }

    /// Whether a client has a file.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The broken files that this was not called for yet.
    pub fn newly_broken(&mut self) -> Vec<FileProblem> {
        let fresh = self.broken.iter_mut().filter_map(|(file, broken)| {
            let is_new = std::mem::take(&mut broken.is_new);
            is_new.then(|| problem_of(file, broken))
        });
        fresh.collect()
    }

    /// The warnings of files that this was not called for yet.
    pub fn new_warnings(&mut self) -> Vec<FileProblem> {
        let mut fresh = Vec::new();
        for (name, file) in &mut self.doubtful {
            if std::mem::take(&mut file.is_new) {
                fresh.extend(warnings_of(name, file));
            }
        }
        fresh
    }

    /// The state of the files.
    pub fn report(&self) -> ClientFilesReport {
        let listed = self.broken.iter().take(LISTED).map(|(file, broken)| problem_of(file, broken));
        let warnings = self.doubtful.iter().take(LISTED).flat_map(|(name, file)| warnings_of(name, file));
        ClientFilesReport {
            directory: self.directory.clone(),
            files: self.files.len(),
            broken: self.broken.len(),
            listed: listed.collect(),
            doubtful: self.doubtful.len(),
            warnings: warnings.collect(),
            unreadable: self.unreadable.clone(),
            reads: self.reads,
        }
    }

    /// The files that have changed since they were read, and those that are gone.
    fn listing(&self) -> io::Result<BTreeSet<OsString>> {
        let mut changed = BTreeSet::new();
        let mut there: BTreeSet<Arc<str>> = BTreeSet::new();
        for entry in fs::read_dir(&self.directory)? {
            let file = entry?.file_name();
            if !is_client_file(&file) {
                continue;
            }
            let name = client_name(&file);
            let known = name.as_deref().and_then(|name| self.files.get(name).copied().flatten());
            if known.is_none() || known != Stamp::at(&self.directory.join(&file)) {
                changed.insert(file);
            }
            there.extend(name);
        }
        let gone = self.files.keys().filter(|name| !there.contains(*name));
        changed.extend(gone.map(|name| OsString::from(format!("{name}.toml"))));
        changed.extend(self.broken.keys().filter(|file| client_name(file).is_none()).cloned());
        Ok(changed)
    }

    /// Reads one file of what was the `directory` just now. `None`: nothing changes for any client.
    fn consider(
        &mut self,
        file: OsString,
        directory: Option<DirectoryId>,
        context: &Context<'_>,
    ) -> Option<ClientChange> {
        if !is_client_file(&file) {
            return None;
        }
        let Some(name) = client_name(&file) else {
            self.misnamed(file);
            return None;
        };
        let loaded = file::load(&self.directory, &file);
        self.reads += u64::from(!matches!(loaded, Err(FileError::Gone)));
        let loaded = match loaded {
            Ok(loaded) => loaded,
            // The directory is what is gone, or another now: it is searched again, because that is an event.
            Err(FileError::Gone) if directory.is_none() || directory != DirectoryId::of(&self.directory) => {
                return None;
            }
            Err(FileError::Gone) => {
                self.broken.remove(&file);
                self.files.remove(&name);
                self.doubtful.remove(&name);
                return Some(ClientChange { name, client: None });
            }
            Err(FileError::Unusable(problem)) => {
                self.known(&name, None);
                self.breaks(file, problem, None);
                return None;
            }
        };
        if !self.known(&name, loaded.stamp) {
            self.breaks(file, format!("there are more than {MOST} files"), None);
            return None;
        }
        match client_text(&loaded.text, context) {
            Ok(ClientText { client, warnings }) => {
                self.broken.remove(&file);
                self.doubts(&name, warnings);
                Some(ClientChange { name, client: Some(client) })
            }
            Err(problem) => {
                self.breaks(file, problem, None);
                None
            }
        }
    }

    /// Notes when a file was read; false if there are too many.
    fn known(&mut self, name: &Arc<str>, stamp: Option<Stamp>) -> bool {
        if self.files.len() >= MOST && !self.files.contains_key(name) {
            return false;
        }
        self.files.insert(name.clone(), stamp);
        true
    }

    /// A file that can be no client's, unless it is gone.
    fn misnamed(&mut self, file: OsString) {
        if fs::symlink_metadata(self.directory.join(&file)).is_err() {
            self.broken.remove(&file);
            return;
        }
        let problem = "its name is not a valid name of a client: use at most 64 letters, digits, `-`, `_` and `.`, and nothing that looks like a key";
        self.breaks(file, problem.to_owned(), None);
    }

    /// Notes what is doubtful in the file of a client, which is used. A broken file keeps the warnings of what it is used as.
    fn doubts(&mut self, name: &Arc<str>, warnings: Box<[String]>) {
        let known = self.doubtful.remove(name);
        if !warnings.is_empty() {
            let is_new = known.is_none_or(|known| known.is_new || known.warnings != warnings);
            self.doubtful.insert(name.clone(), DoubtfulFile { warnings, is_new });
        }
    }

    fn breaks(&mut self, file: OsString, problem: String, blocked_by: Option<Arc<str>>) {
        if self.broken.len() >= MOST {
            return;
        }
        let is_new = self.broken.get(&file).is_none_or(|known| known.is_new || known.problem != problem);
        self.broken.insert(file, BrokenFile { problem, blocked_by, is_new });
    }
}

impl Config {
    /// The files of clients, and what all of them give; `None` without `[client_files]`. Blocks: it reads all files.
    pub fn read_client_files(&self) -> Option<(ClientFiles, Vec<ClientChange>)> {
        let mut files = ClientFiles::new(self.client_files.clone()?, ClientScope::of(self));
        let changes = files.search();
        Some((files, changes))
    }
}

/// Whether a file of this name is read: not if it begins with a dot, as temporary files do.
pub(crate) fn is_client_file(file: &OsStr) -> bool {
    let name = file.as_encoded_bytes();
    !name.starts_with(b".") && name.ends_with(b".toml")
}

fn problem_of(file: &OsStr, broken: &BrokenFile) -> FileProblem {
    let file = match client_name(file) {
        Some(name) => format!("{name}.toml"),
        None => shown(&file.to_string_lossy(), "a file").replace('`', ""),
    };
    FileProblem { file, problem: broken.problem.clone() }
}

fn warnings_of(name: &str, file: &DoubtfulFile) -> impl Iterator<Item = FileProblem> {
    file.warnings
        .iter()
        .map(move |warning| FileProblem { file: format!("{name}.toml"), problem: warning.clone() })
}

/// What a file says.
struct ClientText {
    client: Box<Client>,
    warnings: Box<[String]>,
}

/// Reads the text of a file.
///
/// # Errors
/// What is wrong with it, in one line.
fn client_text(text: &str, context: &Context<'_>) -> Result<ClientText, String> {
    let report = Report::new(text);
    let document = DeTable::parse(text).map_err(|error| line_of(&not_toml(&error, text, &report)))?;
    let table = Table::root(document.get_ref(), Client::NAMES, &report);
    let client = Client::read(&table, context);
    drop(table);
    match (report.finish(), client) {
        (Ok(warnings), Some(client)) => {
            let warnings = warnings.iter().map(line_of).collect();
            Ok(ClientText { client: Box::new(client), warnings })
        }
        (Ok(_), None) => Err("the file cannot be read".to_owned()),
        (Err(problems), _) => Err(in_a_line(&problems)),
    }
}

fn in_a_line(problems: &[Problem]) -> String {
    let first = problems.first().map(line_of).unwrap_or_default();
    match problems.len() {
        0 | 1 => first,
        several => format!("{first} (and {} more)", several - 1),
    }
}

fn line_of(problem: &Problem) -> String {
    let Problem { path, line, message, help, .. } = problem;
    let colon = if path.is_empty() { "" } else { ": " };
    let help = if help.is_empty() { String::new() } else { format!("; {help}") };
    format!("line {line}: {path}{colon}{message}{help}")
}
