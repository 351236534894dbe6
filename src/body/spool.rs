//! Bodies that are kept in files, because they are too large for memory and have to be read before they are sent.
//!
//! A file has no name, so that nothing is left of it however the process ends, and nobody else can open it. All functions here but those that
//! say otherwise block: they are for threads for blocking work.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use thiserror::Error;

/// Permissions of a file that has a name for a moment: its owner's alone.
const MODE: u32 = 0o600;

/// Where bodies are kept, and how many bytes of them.
#[derive(Debug, Clone)]
pub struct Spool {
    /// The folder of the files.
    pub directory: Arc<Path>,
    /// Limit of the bytes in all files of the process.
    pub most: u64,
    /// The bytes in all files of the process.
    pub total: Arc<AtomicU64>,
}

/// A body in a file. Dropping it removes the file.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    length: u64,
    spool: Spool,
}

/// Why a body cannot be kept in a file.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// All files together would be larger than they may be.
    #[error("all spooled bodies together would exceed {0} bytes")]
    Full(u64),
    /// The file cannot be made or written.
    #[error("a file in {directory} cannot be written")]
    Io {
        /// The folder.
        directory: String,
        /// Why.
        source: io::Error,
    },
}

impl SpoolFile {
    /// An empty file.
    ///
    /// # Errors
    /// The folder does not exist, or does not admit it.
    pub fn create(spool: &Spool) -> Result<Self, SpoolError> {
        let file = unnamed(&spool.directory).map_err(|source| spool.failed(source))?;
        Ok(Self { file, length: 0, spool: spool.clone() })
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let more = bytes.len() as u64;
        let before = self.spool.total.fetch_add(more, Ordering::Relaxed);
        self.length += more;
        if before.saturating_add(more) > self.spool.most {
            return Err(SpoolError::Full(self.spool.most));
        }
        self.file.write_all(bytes).map_err(|source| self.spool.failed(source))
    }

    /// The bytes from `offset` on, `count` of them.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter.
    pub fn read(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Number of bytes in it. Does not block.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.total.fetch_sub(self.length, Ordering::Relaxed);
    }
}

impl Spool {
    fn failed(&self, source: io::Error) -> SpoolError {
        SpoolError::Io { directory: self.directory.display().to_string(), source }
    }
}

/// A file without a name. File systems that cannot make one (overlayfs of old kernels, NFS) get one that loses its name at once.
fn unnamed(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    match options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
        opened => return opened,
    }
    let path = named_once(directory);
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn named_once(directory: &Path) -> PathBuf {
    directory.join(format!(".sluicegate-{:016x}", fastrand::u64(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(directory: &Path, most: u64) -> Spool {
        Spool { directory: directory.into(), most, total: Arc::default() }
    }

    #[test]
    fn a_file_has_no_name_and_gives_its_bytes_back() {
        let folder = std::env::temp_dir().join(format!("sluicegate-spool-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let spool = spool(&folder, 10);
        let mut file = SpoolFile::create(&spool).unwrap();
        file.append(b"abc").unwrap();
        file.append(b"defg").unwrap();
        assert_eq!((file.length(), spool.total.load(Ordering::Relaxed)), (7, 7));
        assert_eq!(file.read(2, 3).unwrap(), b"cde");
        assert!(file.read(5, 3).is_err());
        assert!(matches!(file.append(b"hijk"), Err(SpoolError::Full(10))));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        drop(file);
        assert_eq!(spool.total.load(Ordering::Relaxed), 0);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let spool = spool(Path::new("/does/not/exist"), 10);
        let error = SpoolFile::create(&spool).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"), "{error}");
    }
}
