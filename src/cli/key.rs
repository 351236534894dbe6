//! `key new NAME`: creates a client key and shows it once.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use zeroize::Zeroizing;

use crate::config::{KeyHash, MAX_NAME, Problems, client_issue, is_name};

/// Random bytes in a key, as many as its hash has.
const LENGTH: usize = 32;

/// The mode of a client's file: for its owner, and for the group as which the gateway runs.
const MODE: u32 = 0o640;

/// What `key new` creates.
#[derive(Debug, Args)]
pub(super) struct NewOptions {
    /// Name of the client, as shown in logs and metrics
    pub(super) name: String,
    /// Group of the client: the name of a [group] table
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Write the client's file into the directory of [client_files]; a client that has one is refused
    #[arg(long)]
    write: bool,
    /// Configuration file, which names that directory [default: gateway.toml]
    #[arg(long, value_name = "FILE", requires = "write")]
    config: Option<PathBuf>,
}

/// Why no key was created.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "not a valid client name: use letters, digits, `-`, `_` and `.`, at most {MAX_NAME} characters, starting with a letter or \
         digit; a name must not look like a key"
    )]
    Name,
    #[error("not a valid group name: use the name of a [group] table")]
    Group,
    #[error("operating system returned no random bytes")]
    Random,
    #[error(transparent)]
    Config(#[from] Problems),
    #[error("{} has no [client_files] table; add one, for example with directory = \"clients.d\"", .0.display())]
    NoDirectory(PathBuf),
    #[error("client `{name}` is defined in {}, line {line}", file.display())]
    Defined { name: String, file: PathBuf, line: usize },
    #[error("no group `{group}` is defined in {}", file.display())]
    NoGroup { group: String, file: PathBuf },
    #[error("{} exists already; for another key of this client, add its hash to `keys` in this file", .0.display())]
    Exists(PathBuf),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// Creates a key and prints it with the configuration table that admits it, or writes the client's file.
pub(super) fn new(options: &NewOptions) -> ExitCode {
    let created = if options.write { written(options) } else { shown(options) };
    match created {
        Ok(text) => super::print(text.as_str()),
        Err(error) => super::fail(&error),
    }
}

fn shown(options: &NewOptions) -> Result<Zeroizing<String>, Error> {
    check_names(options)?;
    announcement(&options.name, options.group.as_deref(), &generate()?)
}

fn written(options: &NewOptions) -> Result<Zeroizing<String>, Error> {
    let NewOptions { name, group, .. } = options;
    check_names(options)?;
    let config = options.config.clone().unwrap_or_else(|| PathBuf::from(super::CONFIG));
    let issue = client_issue(&config, name, group.as_deref())?;
    if let Some(line) = issue.defined {
        return Err(Error::Defined { name: name.clone(), file: config, line });
    }
    if let Some(group) = group.clone().filter(|_| !issue.has_group) {
        return Err(Error::NoGroup { group, file: config });
    }
    let Some(directory) = issue.directory else { return Err(Error::NoDirectory(config)) };
    let key = generate()?;
    let file = directory.join(format!("{name}.toml"));
    create(&file, &terms(group.as_deref(), &key))?;
    Ok(Zeroizing::new(format!(
        "# Client key. It is not stored and cannot be shown again:\n\
         #   {}\n\
         # Written: {}\n",
        *key,
        file.display()
    )))
}

fn check_names(options: &NewOptions) -> Result<(), Error> {
    if !is_name(&options.name) {
        return Err(Error::Name);
    }
    if options.group.as_deref().is_some_and(|group| !is_name(group)) { Err(Error::Group) } else { Ok(()) }
}

/// Creates a file that appears as a whole under its name, and never takes the place of another.
fn create(file: &Path, text: &str) -> Result<(), Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(file.to_owned()),
        _ => Error::Write(file.to_owned(), error),
    };
    // A name with a dot in front is none that the gateway reads.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let created = write_new(&temporary, text).and_then(|()| rename_new(&temporary, file));
    if created.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    created.map_err(failed)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Renames a file, unless there is one with the new name (rename(2), `RENAME_NOREPLACE`).
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE);
    match renamed {
        // File systems that cannot do that can link.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

/// A new client key.
pub(super) fn generate() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    rand::fill(bytes.as_mut()).map_err(|_| Error::Random)?;
    Ok(Zeroizing::new(format!("sk-sg-{}", URL_SAFE_NO_PAD.encode(bytes.as_ref()))))
}

fn announcement(name: &str, group: Option<&str>, key: &str) -> Result<Zeroizing<String>, Error> {
    // A bare key with a dot would be a table within a table.
    let table = if name.contains('.') { format!("{name:?}") } else { name.to_owned() };
    Ok(Zeroizing::new(format!(
        "# Client key. It is not stored and cannot be shown again:\n\
         #   {key}\n\
         # For gateway.toml:\n\
         [client.{table}]\n\
         {}",
        terms(group, key)
    )))
}

/// The keys of the client's table.
fn terms(group: Option<&str>, key: &str) -> String {
    let group = group.map(|group| format!("group = {group:?}\n")).unwrap_or_default();
    format!("key = \"{}\"\n{group}", KeyHash::of(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_admits_the_key() {
        let key = generate().expect("random bytes");
        assert!(key.starts_with("sk-sg-") && key.len() == 6 + 43, "{}", key.len());
        assert_ne!(*key, *generate().expect("random bytes"));
        for (name, table) in [("team-a", "[client.team-a]"), ("team.a", "[client.\"team.a\"]")] {
            let text = announcement(name, None, &key).expect("a name");
            assert_eq!(text.matches(key.as_str()).count(), 1);
            assert!(text.contains(table), "{}", *text);
            let document: toml::Table = text.parse().expect("TOML");
            let hash: KeyHash =
                document["client"][name]["key"].as_str().expect("a string").parse().expect("a hash");
            assert_eq!(hash, KeyHash::of(key.as_bytes()));
        }
    }

    #[test]
    fn a_name_that_the_file_would_refuse_gets_no_key() {
        let options = |name: &str, group: Option<&str>| NewOptions {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            write: false,
            config: None,
        };
        for name in ["", "a b", "sk-sg-abc", "x\n[admin]"] {
            assert!(matches!(shown(&options(name, None)), Err(Error::Name)), "{name}");
            assert!(matches!(shown(&options("team-a", Some(name))), Err(Error::Group)), "{name}");
        }
        let text = shown(&options("team-a", Some("research"))).expect("a key");
        assert!(text.ends_with("\"\ngroup = \"research\"\n"), "{}", *text);
    }
}
