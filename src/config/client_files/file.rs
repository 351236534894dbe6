//! One file of a client: whether it may be used, and its text.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::config::naming::is_name;

/// Most bytes of a file.
const MAX_FILE: u64 = 64 << 10;

/// A file that was changed this many seconds before it was read may change again without another time of change.
const RACY: i64 = 2;

/// What changes when a file does: a file with the same stamp has the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Time of the last change of the file or of its metadata, which programs cannot set (inode(7)).
    changed: i64,
    changed_nanos: u32,
    size: u32,
    inode: u64,
}

/// Which directory a path leads to, however it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryId {
    device: u64,
    inode: u64,
}

/// The text of a file.
pub(super) struct Loaded {
    pub(super) text: String,
    /// `None` if the file was changed just now.
    pub(super) stamp: Option<Stamp>,
}

/// Why there is no text.
pub(super) enum FileError {
    /// There is no such file.
    Gone,
    /// The file must not or cannot be used.
    Unusable(String),
}

impl Stamp {
    /// The stamp of what is at a path, links followed.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            changed: metadata.ctime(),
            changed_nanos: u32::try_from(metadata.ctime_nsec()).unwrap_or_default(),
            size: u32::try_from(metadata.size()).unwrap_or(u32::MAX),
            inode: metadata.ino(),
        }
    }

    /// The stamp, if every later change of the file changes it.
    fn lasting(self) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        (self.changed < now.saturating_sub(RACY)).then_some(self)
    }
}

impl DirectoryId {
    /// The directory that a path leads to now, links followed; `None` if it leads to none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(Metadata::is_dir)?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The client to which a file of this name belongs, if it can be one's.
pub(super) fn client_name(file: &OsStr) -> Option<Arc<str>> {
    let name = file.to_str()?.strip_suffix(".toml")?;
    is_name(name).then(|| name.into())
}

/// Reads a file of a directory.
pub(super) fn load(directory: &Path, file: &OsStr) -> Result<Loaded, FileError> {
    let path = real_path(directory, file)?;
    let mut opened = open(&path)?;
    let metadata = opened.metadata().map_err(|error| unreadable(&error))?;
    if let Some(problem) = unfit(&metadata) {
        return Err(FileError::Unusable(problem.to_owned()));
    }
    let stamp = Stamp::of(&metadata).lasting();
    let mut text = String::new();
    opened.by_ref().take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => FileError::Unusable("the file is not UTF-8".to_owned()),
        _ => unreadable(&error),
    })?;
    if text.len() as u64 > MAX_FILE {
        return Err(FileError::Unusable("the file is larger than 64KiB".to_owned()));
    }
    Ok(Loaded { text, stamp })
}

/// Where the file is. A link may lead to another name in the directory, as those of Kubernetes do, and nowhere else.
fn real_path(directory: &Path, file: &OsStr) -> Result<PathBuf, FileError> {
    let path = directory.join(file);
    let metadata = fs::symlink_metadata(&path).map_err(|error| gone_or(&error))?;
    if !metadata.is_symlink() {
        return Ok(path);
    }
    let leads_out =
        || FileError::Unusable("is a link that does not lead to a file of the directory".to_owned());
    let real = path.canonicalize().map_err(|_| leads_out())?;
    let directory = directory.canonicalize().map_err(|error| unreadable(&error))?;
    if real.starts_with(directory) { Ok(real) } else { Err(leads_out()) }
}

/// Opens a file without following a link that has taken its place meanwhile, and without waiting for what is no file.
fn open(path: &Path) -> Result<File, FileError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| gone_or(&error))
}

/// Why a file must not be used.
fn unfit(metadata: &Metadata) -> Option<&'static str> {
    let mode = metadata.mode();
    if !metadata.is_file() {
        return Some("is not a regular file");
    }
    if mode & 0o004 != 0 {
        return Some("can be read by all users of this machine; change its mode to 0640 (chmod o-rwx)");
    }
    if mode & 0o002 != 0 {
        return Some("can be changed by all users of this machine; change its mode to 0640 (chmod o-rwx)");
    }
    None
}

fn gone_or(error: &io::Error) -> FileError {
    if error.kind() == io::ErrorKind::NotFound { FileError::Gone } else { unreadable(error) }
}

fn unreadable(error: &io::Error) -> FileError {
    FileError::Unusable(format!("the file cannot be read: {error}"))
}
