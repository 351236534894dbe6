//! The client key of a run.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::cli::key;

/// The variable with a client key that is kept.
pub(super) const VARIABLE: &str = "SLUICEGATE_CLIENT_KEY";

/// The shortest client key that is accepted, in bytes: a shorter one could be guessed.
const SHORTEST: usize = 20;

/// Who may send requests.
#[derive(Debug)]
pub(in crate::cli) enum Access {
    /// Who has the key.
    Key {
        /// The client key.
        key: Zeroizing<String>,
        /// Where it comes from.
        origin: Origin,
    },
    /// Every process of this machine.
    Open,
}

/// Where a client key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Origin {
    /// It was made for this run.
    Made,
    /// The environment has it.
    Variable,
    /// This file has it.
    File(PathBuf),
}

/// Why there is no client key.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    #[error(transparent)]
    Key(#[from] key::Error),
    #[error("client key file {} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("client key file {} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error(
        "{0} holds no client key: write one line of at least {SHORTEST} letters, digits, `-`, `_` or `.`, or remove it and a key is made"
    )]
    Unusable(String),
}

impl Access {
    /// The key in `file`, which is made if it does not exist; else the one in the environment; else a new one.
    pub(in crate::cli) fn of(file: Option<&Path>, variable: Option<String>) -> Result<Self, Error> {
        if let Some(file) = file {
            return Ok(Self::Key { key: in_file(file)?, origin: Origin::File(file.to_owned()) });
        }
        if let Some(text) = variable {
            return Ok(Self::Key { key: usable(text, VARIABLE)?, origin: Origin::Variable });
        }
        Ok(Self::Key { key: key::generate()?, origin: Origin::Made })
    }
}

fn in_file(file: &Path) -> Result<Zeroizing<String>, Error> {
    match fs::read_to_string(file) {
        Ok(text) => usable(text, &file.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = key::generate()?;
            let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
            let written = made.and_then(|mut made| made.write_all(format!("{}\n", *key).as_bytes()));
            written.map_err(|error| Error::Write(file.to_owned(), error))?;
            Ok(key)
        }
        Err(error) => Err(Error::Read(file.to_owned(), error)),
    }
}

fn usable(text: String, from: &str) -> Result<Zeroizing<String>, Error> {
    let text = Zeroizing::new(text);
    let key = text.trim_end_matches(['\r', '\n']);
    let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_plain || key.len() < SHORTEST {
        return Err(Error::Unusable(from.to_owned()));
    }
    Ok(Zeroizing::new(key.to_owned()))
}
