//! Remembers the accounts of ids in memory, and in a file to which a thread of its own appends.
//!
//! The file is read once, when it is opened. A line that was cut (the process or the machine stopped while it was written) says nothing, and is
//! cut off; everything else that is not a line is skipped. When more lines were appended than there are entries, the thread writes a new file beside
//! the old one and renames it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::oneshot;

use super::{AccountMap, Entry, IdDigest, MapSize, MemoryMap, Owners, Written, hour, text};

/// The names of the file, of its successor while that is written, and of the file whose lock says who writes.
const NAME: &str = "accounts.map";
const NEXT: &str = "accounts.map.next";
const LOCK: &str = "accounts.lock";

/// The most writes that wait for the thread; what is learnt beyond that is not written.
const MOST_WAITING: usize = 1024;

/// Lines beyond two for each entry after which a new file is written.
const SLACK: usize = 4096;

/// The largest file that is read, in bytes; of a larger one, only the beginning.
const MOST_BYTES: u64 = 256 << 20;

/// After a failure to write, how long until the next try.
const AGAIN: Duration = Duration::from_secs(1);

/// How long to wait for another process to let the file go, as it does when a restart overlaps.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Remembers the accounts of ids also when the process ends.
#[derive(Debug)]
pub struct FileMap {
    memory: Arc<MemoryMap>,
    is_sound: Arc<AtomicBool>,
    /// `None` only while it is dropped.
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be read or written.
    #[error("{} cannot be read and written", path.display())]
    File {
        /// The file, or the directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("another process uses {}", .0.display())]
    InUse(PathBuf),
    /// There is no thread.
    #[error("the system gives no thread")]
    Thread(#[source] io::Error),
}

/// Entries to write, and who waits for that.
struct Job {
    lines: String,
    count: usize,
    done: Option<oneshot::Sender<bool>>,
}

impl FileMap {
    /// Opens the file in `directory`, which is made if it is not there, and reads it. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::File { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let lock = lock(&directory.join(LOCK))?;
        let path = directory.join(NAME);
        let mut file = options().open(&path).map_err(failed(&path))?;
        let memory = Arc::new(MemoryMap::default());
        let lines = load(&mut file, &memory).map_err(failed(&path))?;
        let is_sound = Arc::new(AtomicBool::new(true));
        let (queue, jobs) = sync_channel(MOST_WAITING);
        let writer = Writer {
            directory: directory.to_owned(),
            file: Some(file),
            lines,
            memory: memory.clone(),
            is_sound: is_sound.clone(),
            _lock: lock,
        };
        let thread = thread::Builder::new().name("accounts".to_owned()).spawn(move || writer.run(&jobs));
        let thread = thread.map_err(OpenError::Thread)?;
        Ok(Self { memory, is_sound, queue: Some(queue), thread: Some(thread) })
    }

    /// Has `entries`, learnt at this hour, written.
    fn write(&self, entries: &[Entry], hour: u32, done: Option<oneshot::Sender<bool>>) {
        let lines: Vec<String> = entries.iter().filter_map(|entry| text::write(entry, hour)).collect();
        let job = Job { count: lines.len(), lines: lines.concat(), done };
        let Some(queue) = &self.queue else { return };
        match queue.try_send(job) {
            Ok(()) => {}
            // A waiting caller sees that its sender is gone.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::warn!("accounts of ids: too many writes wait; some are not in the state file");
            }
        }
    }
}

impl AccountMap for FileMap {
    fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    fn find<'a>(&'a self, ids: &'a [IdDigest]) -> Owners<'a> {
        let (owners, renewed) = self.memory.look_up(ids);
        if !renewed.is_empty() {
            self.write(&renewed, hour(), None);
        }
        Box::pin(std::future::ready(owners))
    }

    fn learn(&self, entries: Vec<Entry>) -> Written {
        let hour = hour();
        let new = self.memory.insert(&entries, hour);
        let new: Vec<Entry> =
            entries.into_iter().zip(new).filter(|(_, is_new)| *is_new).map(|(entry, _)| entry).collect();
        if new.is_empty() {
            return Box::pin(std::future::ready(true));
        }
        let (done, written) = oneshot::channel();
        self.write(&new, hour, Some(done));
        Box::pin(async move { written.await.unwrap_or(false) })
    }

    fn can_write(&self) -> bool {
        self.is_sound.load(Ordering::Acquire)
    }

    fn size(&self) -> MapSize {
        MapSize { is_kept: true, ..self.memory.size() }
    }
}

/// What waits is written before the file is closed.
impl Drop for FileMap {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread that writes.
struct Writer {
    directory: PathBuf,
    /// `None` after a failure, until a new file was written.
    file: Option<File>,
    /// Lines in the file.
    lines: usize,
    memory: Arc<MemoryMap>,
    is_sound: Arc<AtomicBool>,
    _lock: File,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let first = if self.file.is_some() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(AGAIN)
            };
            let mut batch = match first {
                Ok(job) => vec![job],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            batch.extend(jobs.try_iter());
            let written = self.write(&batch);
            self.note(&written);
            for done in batch.into_iter().filter_map(|job| job.done) {
                let _ = done.send(written.is_ok());
            }
        }
    }

    /// Appends what the jobs have, or writes a new file.
    fn write(&mut self, batch: &[Job]) -> io::Result<()> {
        let count: usize = batch.iter().map(|job| job.count).sum();
        let most = 2 * self.memory.size().entries + SLACK;
        let Some(file) = self.file.as_mut().filter(|_| self.lines + count <= most) else {
            return self.write_new();
        };
        let lines: Vec<&str> = batch.iter().map(|job| &*job.lines).collect();
        // Until it is known to have gone well: a line may be there in part.
        let written = file.write_all(lines.concat().as_bytes()).and_then(|()| file.sync_data());
        match written {
            Ok(()) => self.lines += count,
            Err(_) => self.file = None,
        }
        written
    }

    /// Writes what is in memory into a new file, in place of the old one.
    fn write_new(&mut self) -> io::Result<()> {
        self.file = None;
        let (path, next) = (self.directory.join(NAME), self.directory.join(NEXT));
        let mut lines = String::new();
        let mut count = 0;
        self.memory.for_each(|id, slot| {
            let entry = Entry { id, account: slot.account.clone() };
            if let Some(line) = text::write(&entry, slot.hour) {
                lines.push_str(&line);
                count += 1;
            }
        });
        let mut file = BufWriter::new(options().append(false).write(true).truncate(true).open(&next)?);
        file.write_all(lines.as_bytes())?;
        file.into_inner()?.sync_data()?;
        fs::rename(&next, &path)?;
        File::open(&self.directory)?.sync_all()?;
        self.file = Some(options().open(&path)?);
        self.lines = count;
        Ok(())
    }

    /// Tells the operator when writing begins or ends to fail.
    fn note(&self, written: &io::Result<()>) {
        let was_sound = self.is_sound.swap(written.is_ok(), Ordering::AcqRel);
        match written {
            Err(error) if was_sound => {
                let path = self.directory.join(NAME);
                tracing::error!(
                    path = %path.display(), %error,
                    "accounts of ids: the state file cannot be written; requests that create something fail over only when an account is out"
                );
            }
            Ok(()) if !was_sound => tracing::info!("accounts of ids: the state file is written again"),
            _ => {}
        }
    }
}

fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    let file = options().open(path).map_err(failed)?;
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if waited >= LOCK_WAIT => {
                return Err(OpenError::InUse(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(step),
        }
        waited += step;
    }
}

/// Reads the file into `memory`, and cuts off what follows the last line's end. Returns the number of lines.
fn load(file: &mut File, memory: &MemoryMap) -> io::Result<usize> {
    let mut bytes = Vec::new();
    Read::by_ref(file).take(MOST_BYTES).read_to_end(&mut bytes)?;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    if whole < bytes.len() {
        file.set_len(whole as u64)?;
    }
    let (mut lines, mut skipped) = (0, 0);
    for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        lines += 1;
        let line = std::str::from_utf8(line).ok().filter(|line| line.len() <= text::LONGEST);
        let read = line.and_then(text::read);
        match read {
            Some((entry, hour)) => _ = memory.insert(&[entry], hour),
            None => skipped += 1,
        }
    }
    if skipped > 0 {
        tracing::warn!(
            lines = skipped,
            "accounts of ids: lines of the state file are damaged and were skipped"
        );
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::{super::ClientDigests, *};

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!(
                "sluicegate-accounts-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            );
            Self(std::env::temp_dir().join(name))
        }

        fn file(&self) -> PathBuf {
            self.0.join(NAME)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn id(number: usize) -> IdDigest {
        ClientDigests::of(Some("a")).digest(number.to_string().as_bytes())
    }

    async fn learn(map: &FileMap, numbers: impl Iterator<Item = usize>, account: &str) -> bool {
        map.learn(numbers.map(|number| Entry { id: id(number), account: account.into() }).collect()).await
    }

    async fn owner(map: &FileMap, number: usize) -> Option<String> {
        map.find(&[id(number)]).await.remove(0).map(|name| name.to_string())
    }

    #[tokio::test]
    async fn what_was_written_is_known_after_a_restart() {
        let folder = Folder::new();
        let map = FileMap::open(&folder.0).unwrap();
        assert!(learn(&map, 0..3, "main").await && map.can_write());
        drop(map);
        let map = FileMap::open(&folder.0).unwrap();
        assert_eq!(owner(&map, 2).await.as_deref(), Some("main"));
        assert_eq!(owner(&map, 3).await, None);
        assert_eq!(map.size(), MapSize { entries: 3, bound: super::super::MOST_IDS, is_kept: true });
    }

    #[tokio::test]
    async fn a_torn_last_line_and_a_damaged_one_cost_only_themselves() {
        let folder = Folder::new();
        let map = FileMap::open(&folder.0).unwrap();
        learn(&map, 0..3, "main").await;
        drop(map);
        let mut bytes = fs::read(folder.file()).unwrap();
        bytes[20] ^= 1;
        bytes.truncate(bytes.len() - 3);
        fs::write(folder.file(), &bytes).unwrap();
        let map = FileMap::open(&folder.0).unwrap();
        assert_eq!(owner(&map, 0).await, None);
        assert_eq!(owner(&map, 1).await.as_deref(), Some("main"));
        assert_eq!(owner(&map, 2).await, None);
        // What is appended now does not become part of the torn line.
        learn(&map, 5..6, "main").await;
        drop(map);
        let map = FileMap::open(&folder.0).unwrap();
        assert_eq!(owner(&map, 5).await.as_deref(), Some("main"));
    }

    #[tokio::test]
    async fn a_new_file_is_written_before_it_grows_without_bound() {
        let folder = Folder::new();
        let map = FileMap::open(&folder.0).unwrap();
        for round in 0..30 {
            let account = format!("account-{}", round % 2);
            assert!(learn(&map, 0..500, &account).await);
        }
        let lines = fs::read_to_string(folder.file()).unwrap().lines().count();
        assert!(lines <= 2 * 500 + SLACK, "{lines}");
        drop(map);
        let map = FileMap::open(&folder.0).unwrap();
        assert_eq!(owner(&map, 499).await.as_deref(), Some("account-1"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_reported_and_written_later() {
        let folder = Folder::new();
        let map = FileMap::open(&folder.0).unwrap();
        learn(&map, 0..1, "main").await;
        // A directory in the place of the new file, and no room for lines in the old one.
        fs::create_dir(folder.0.join(NEXT)).unwrap();
        let mut ok = true;
        for round in 0..20 {
            ok &= learn(&map, 0..500, if round % 2 == 0 { "x" } else { "y" }).await;
        }
        assert!(!ok && !map.can_write());
        assert_eq!(owner(&map, 499).await.as_deref(), Some("y"), "it is known nevertheless");
        fs::remove_dir(folder.0.join(NEXT)).unwrap();
        assert!(learn(&map, 600..601, "x").await && map.can_write());
    }

    #[tokio::test]
    async fn one_process_writes_at_a_time() {
        let folder = Folder::new();
        let _map = FileMap::open(&folder.0).unwrap();
        assert!(matches!(FileMap::open(&folder.0), Err(OpenError::InUse(_))));
    }
}
