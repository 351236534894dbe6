//! When to reload the configuration: one of its files may have changed, or a reload was requested.
//!
//! Folders are watched, because a file that is replaced by renaming is a different file afterwards: the folder of each file, and
//! of each symbolic link on the way to it (Kubernetes changes a mounted file by swapping a link two steps away from it).

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::client_files::is_client_file;

/// Events that may be queued. For events beyond it only a flag is kept: see [`PendingFlags`].
const QUEUE: usize = 256;
/// An edit is complete when nothing has happened for this long. An editor writes several times.
const QUIET: Duration = Duration::from_millis(100);
/// A file that is open for writing is waited for, at most for this long: half a file may be a valid configuration.
const LONGEST_EDIT: Duration = Duration::from_secs(2);
/// Links followed on the way to one file, as many as Linux follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Names of clients' files that are remembered until they are read; beyond it, the whole directory is searched.
const MAX_NAMES: usize = 4096;

/// Waits for reasons to reload. Used by a thread that may block.
#[derive(Debug)]
pub struct ConfigWatch {
    messages: Receiver<WatchMessage>,
    pending: Arc<PendingFlags>,
    /// `None` where the system cannot watch files; a reload can still be requested.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    /// Folders among them that were removed or moved, or may have been: the folder with that name now is not watched yet.
    gone: BTreeSet<PathBuf>,
    /// Files, links, and the first missing component of a path that does not exist yet.
    entries: BTreeSet<PathBuf>,
    /// Files that were written to and not closed since.
    open: BTreeSet<PathBuf>,
    /// The directory of the clients' files, as the configuration names it.
    client_directory: Option<PathBuf>,
    /// The same without links, if it is there.
    client_folder: Option<PathBuf>,
    client_events: ClientEvents,
    /// Whether anything but files of clients may have changed.
    configuration_changed: bool,
}

/// What has happened in the directory of the clients' files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientEvents {
    /// Files that have changed.
    pub files: BTreeSet<OsString>,
    /// Whether others may have changed too.
    pub any: bool,
}

/// Requests a reload from any thread. Dropping it ends the watch.
#[derive(Debug)]
pub struct ReloadTrigger {
    sender: WatchSender,
}

/// Sends messages to the watch.
#[derive(Debug, Clone)]
struct WatchSender {
    queue: SyncSender<WatchMessage>,
    pending: Arc<PendingFlags>,
}

/// Why to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadReason {
    /// A file was touched; its content may be the same.
    Changed,
    /// A reload was requested.
    Asked,
    /// Only files of clients were touched: see [`ConfigWatch::client_events`].
    Clients,
}

/// What must not be lost when the queue of events is full.
#[derive(Debug, Default)]
struct PendingFlags {
    asked: AtomicBool,
    closed: AtomicBool,
    /// An event was dropped because the queue was full.
    missed: AtomicBool,
}

/// A message that wakes the watch.
#[derive(Debug)]
enum WatchMessage {
    Wake,
    Event(notify::Result<Event>),
}

impl ConfigWatch {
    /// A watch without files, and its trigger.
    pub fn new() -> (Self, ReloadTrigger) {
        let (queue, messages) = sync_channel(QUEUE);
        let pending = Arc::new(PendingFlags::default());
        let sender = WatchSender { queue, pending: pending.clone() };
        let seen = sender.clone();
        let watcher = notify::recommended_watcher(move |event| seen.observed(event));
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "configuration files cannot be watched; send SIGHUP to reload them");
        });
        let watch = Self {
            messages,
            pending,
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
            gone: BTreeSet::new(),
            entries: BTreeSet::new(),
            open: BTreeSet::new(),
            client_directory: None,
            client_folder: None,
            client_events: ClientEvents::default(),
            configuration_changed: false,
        };
        (watch, ReloadTrigger { sender })
    }

    /// The directory of the clients' files is this from the next call of [`ConfigWatch::follow`] on.
    pub fn follow_clients(&mut self, directory: Option<&Path>) {
        self.client_directory = directory.map(Path::to_owned);
    }

    /// What has happened in the directory of the clients' files since the last call.
    pub fn client_events(&mut self) -> ClientEvents {
        std::mem::take(&mut self.client_events)
    }

    /// Watches exactly the paths that lead to `files`, and the directory of the clients' files. Returns true when a folder is watched that was not before, or that
    /// replaced a watched one: changes between the last read and now were not seen then.
    pub fn follow(&mut self, files: &BTreeSet<PathBuf>) -> bool {
        let mut paths = WatchedPaths::default();
        for file in files {
            paths.walk(file);
        }
        self.client_folder = self.client_directory.as_ref().and_then(|directory| {
            paths.walk(directory);
            directory.canonicalize().ok()
        });
        paths.folders.extend(self.client_folder.clone());
        let WatchedPaths { folders, entries } = paths;
        let gone = std::mem::take(&mut self.gone);
        let grown = folders.iter().any(|folder| !self.folders.contains(folder) || gone.contains(folder));
        if let Some(watcher) = &mut self.watcher {
            // A folder that was moved away would still be watched, under its former name.
            for folder in self.folders.difference(&folders).chain(&gone) {
                // The folder may no longer exist, and its watch neither.
                let _ = watcher.unwatch(folder);
            }
            // Watched folders too: the event of their removal may still be on its way.
            for folder in &folders {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    tracing::warn!(%error, folder = %folder.display(), "configuration folder cannot be watched; send SIGHUP after changing a file in it");
                }
            }
        }
        (self.folders, self.entries) = (folders, entries);
        grown
    }

    /// Waits for the next reason to reload; `None` when the trigger was dropped.
    pub fn wait(&mut self) -> Option<ReloadReason> {
        let mut changed = false;
        while !changed {
            if let Some(asked) = self.requested() {
                return asked;
            }
            changed = self.missed()
                || match self.messages.recv() {
                    Ok(message) => self.concerns(message),
                    Err(_) => return None,
                };
        }
        self.settle();
        let is_configuration = std::mem::take(&mut self.configuration_changed);
        let reason = if is_configuration { ReloadReason::Changed } else { ReloadReason::Clients };
        self.requested().unwrap_or(Some(reason))
    }

    /// What the trigger has requested, if anything.
    fn requested(&self) -> Option<Option<ReloadReason>> {
        if self.pending.closed.load(Ordering::Acquire) {
            return Some(None);
        }
        self.pending.asked.swap(false, Ordering::AcqRel).then_some(Some(ReloadReason::Asked))
    }

    /// Whether an event was dropped: it may have been a change, or the removal of a folder.
    fn missed(&mut self) -> bool {
        let missed = self.pending.missed.swap(false, Ordering::AcqRel);
        if missed {
            self.anything();
        }
        missed
    }

    /// Treats every watched folder as possibly replaced.
    fn anything(&mut self) {
        self.client_events.any = true;
        self.configuration_changed = true;
        self.gone.clone_from(&self.folders);
    }

    /// Waits until the edit is complete, or a request is urgent. A wake-up in the queue may be of an earlier request.
    fn settle(&mut self) {
        let latest = Instant::now() + LONGEST_EDIT;
        loop {
            if self.pending.is_urgent() {
                return;
            }
            let left = latest.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(QUIET.min(left)) {
                Ok(seen) => _ = self.concerns(seen),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && !self.open.is_empty() => {}
                Err(_) => break,
            }
            if left.is_zero() {
                break;
            }
        }
        self.open.clear();
    }

    /// Notes which of the paths of an event are files of clients, and whether there are others.
    fn note(&mut self, paths: &[PathBuf]) {
        for path in paths {
            let is_entry = self.entries.contains(path) || self.folders.contains(path);
            self.configuration_changed |= is_entry;
            let name = path.file_name().filter(|_| self.is_in_client_folder(path));
            match name {
                Some(name) if is_client_file(name) && self.client_events.files.len() < MAX_NAMES => {
                    self.client_events.files.insert(name.to_owned());
                }
                // Kubernetes swaps a link of such a name, through which all files lead.
                Some(name) if is_client_file(name) || name.as_encoded_bytes().starts_with(b"..") => {
                    self.client_events.any = true;
                }
                Some(_) => {}
                // The directory itself, or a link on the way to it.
                None => self.client_events.any |= is_entry,
            }
        }
    }

    fn is_in_client_folder(&self, path: &Path) -> bool {
        self.client_folder.is_some() && path.parent() == self.client_folder.as_deref()
    }

    /// Whether a path is one of a client's files, or may be a link through which they lead.
    fn is_of_client(&self, path: &Path) -> bool {
        self.is_in_client_folder(path)
            && path
                .file_name()
                .is_some_and(|name| is_client_file(name) || name.as_encoded_bytes().starts_with(b".."))
    }

    /// Whether the message concerns a watched path.
    fn concerns(&mut self, message: WatchMessage) -> bool {
        let event = match message {
            WatchMessage::Wake => return false,
            WatchMessage::Event(Ok(event)) => event,
            WatchMessage::Event(Err(_)) => {
                self.anything();
                return true;
            }
        };
        // The system dropped events.
        if event.need_rescan() {
            self.anything();
            return true;
        }
        let ours = |path: &PathBuf| {
            self.entries.contains(path) || self.folders.contains(path) || self.is_of_client(path)
        };
        let concerned: Vec<PathBuf> = event.paths.iter().filter(|path| ours(path)).cloned().collect();
        if concerned.is_empty() {
            return false;
        }
        if !is_reading(event.kind) {
            self.note(&concerned);
        }
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                concerned.iter().for_each(|path| _ = self.open.remove(path));
                true
            }
            // The gateway itself reads the files.
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                self.open.extend(concerned);
                true
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => {
                concerned.iter().for_each(|path| _ = self.open.remove(path));
                true
            }
            // Created, removed or renamed.
            _ => {
                for path in concerned {
                    self.open.remove(&path);
                    if self.folders.contains(&path) {
                        self.gone.insert(path);
                    }
                }
                true
            }
        }
    }
}

impl ReloadTrigger {
    /// Requests a reload, whether or not files changed.
    pub fn trigger(&self) {
        self.sender.wake(&self.sender.pending.asked);
    }
}

impl Drop for ReloadTrigger {
    fn drop(&mut self) {
        self.sender.wake(&self.sender.pending.closed);
    }
}

impl WatchSender {
    /// Sets the flag and wakes the watch; with a full queue the watch will look anyway.
    fn wake(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        let _ = self.queue.try_send(WatchMessage::Wake);
    }

    fn observed(&self, event: notify::Result<Event>) {
        if self.queue.try_send(WatchMessage::Event(event)).is_err() {
            // The queue may have been emptied since.
            self.wake(&self.pending.missed);
        }
    }
}

impl PendingFlags {
    fn is_urgent(&self) -> bool {
        self.asked.load(Ordering::Acquire) || self.closed.load(Ordering::Acquire)
    }
}

/// Whether files were only read. The gateway itself reads them.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The links and folders on the way to some files.
#[derive(Debug, Default)]
struct WatchedPaths {
    folders: BTreeSet<PathBuf>,
    entries: BTreeSet<PathBuf>,
}

impl WatchedPaths {
    /// Follows the path of `file` link by link.
    fn walk(&mut self, file: &Path) {
        let Ok(file) = std::path::absolute(file) else { return };
        let mut here = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = steps(&file).collect();
        let mut links = 0;
        while let Some(step) = rest.pop_front() {
            if step == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&step);
            let link = if links < MAX_LINKS { next.read_link().ok() } else { None };
            // The last step is the file itself. A missing step is where it will appear.
            if link.is_some() || rest.is_empty() || !next.exists() {
                self.folders.insert(here.clone());
                self.entries.insert(next.clone());
            }
            match link {
                Some(target) => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    steps(&target).rev().for_each(|step| rest.push_front(step));
                }
                None if next.exists() => here = next,
                None => return,
            }
        }
    }
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use notify::event::{CreateKind, DataChange};

    use super::*;

    /// A temporary folder of the test, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sluicegate-watch-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn watching(file: &Path) -> (ConfigWatch, ReloadTrigger) {
        let (mut watch, trigger) = ConfigWatch::new();
        assert!(watch.follow(&BTreeSet::from([file.to_owned()])));
        (watch, trigger)
    }

    /// Adds another message to the queue: without the change before it, this message would come first.
    fn next_after(watch: &mut ConfigWatch, trigger: ReloadTrigger) -> Option<ReloadReason> {
        let next = watch.wait();
        drop(trigger);
        next
    }

    #[test]
    fn the_folders_of_links_and_of_missing_files_are_watched() {
        let folder = Folder::new("paths");
        let root = &folder.0;
        fs::create_dir(root.join("v1")).unwrap();
        fs::write(root.join("v1/gateway.toml"), "").unwrap();
        symlink("v1", root.join("..data")).unwrap();
        symlink("..data/gateway.toml", root.join("gateway.toml")).unwrap();
        let mut paths = WatchedPaths::default();
        paths.walk(&root.join("gateway.toml"));
        paths.walk(&root.join("certs/server.pem"));
        for entry in ["gateway.toml", "..data", "v1/gateway.toml", "certs"] {
            assert!(paths.entries.contains(&root.join(entry)), "{entry}: {paths:?}");
        }
        assert!(paths.folders.contains(root) && paths.folders.contains(&root.join("v1")));
        assert!(!paths.folders.contains(&root.join("certs")));
    }

    #[test]
    fn links_that_go_in_circles_end() {
        let folder = Folder::new("circle");
        symlink("b", folder.0.join("a")).unwrap();
        symlink("a", folder.0.join("b")).unwrap();
        let mut paths = WatchedPaths::default();
        paths.walk(&folder.0.join("a"));
        assert!(paths.entries.contains(&folder.0.join("b")));
    }

    #[test]
    fn writing_renaming_and_swapping_a_link_are_seen() {
        let folder = Folder::new("edits");
        let file = folder.0.join("gateway.toml");
        fs::write(&file, "1").unwrap();
        let (mut watch, trigger) = watching(&file);
        fs::write(&file, "2").unwrap();
        assert_eq!(next_after(&mut watch, trigger), Some(ReloadReason::Changed));

        let (mut watch, trigger) = watching(&file);
        fs::write(folder.0.join("new"), "3").unwrap();
        fs::rename(folder.0.join("new"), &file).unwrap();
        assert_eq!(next_after(&mut watch, trigger), Some(ReloadReason::Changed));

        fs::remove_file(&file).unwrap();
        fs::create_dir(folder.0.join("v1")).unwrap();
        fs::create_dir(folder.0.join("v2")).unwrap();
        symlink("v1", folder.0.join("..data")).unwrap();
        symlink("..data/gateway.toml", &file).unwrap();
        let (mut watch, trigger) = watching(&file);
        symlink("v2", folder.0.join("..new")).unwrap();
        fs::rename(folder.0.join("..new"), folder.0.join("..data")).unwrap();
        assert_eq!(next_after(&mut watch, trigger), Some(ReloadReason::Changed));
    }

    /// An event as the watcher would report it.
    fn event(kind: EventKind, path: &Path) -> notify::Result<Event> {
        Ok(Event::new(kind).add_path(path.to_owned()))
    }

    /// The next reload reason of a watch that must have one.
    fn next(mut watch: ConfigWatch) -> (ConfigWatch, Option<ReloadReason>) {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let reason = watch.wait();
            sender.send((watch, reason)).ok();
        });
        receiver.recv_timeout(Duration::from_secs(60)).expect("no reason")
    }

    #[test]
    fn a_change_that_finds_the_queue_full_is_not_lost() {
        let folder = Folder::new("full");
        let file = folder.0.join("gateway.toml");
        fs::write(&file, "1").unwrap();
        let (watch, trigger) = watching(&file);
        let created = EventKind::Create(CreateKind::File);
        for other in 0..QUEUE {
            trigger.sender.observed(event(created, &folder.0.join(other.to_string())));
        }
        trigger.sender.observed(event(created, &file));
        let (mut watch, reason) = next(watch);
        assert_eq!(reason, Some(ReloadReason::Changed));
        // The lost event may have been the removal of a folder.
        let files = BTreeSet::from([file]);
        assert!(watch.follow(&files) && !watch.follow(&files));
    }

    #[test]
    fn an_edit_is_waited_for_though_a_reload_was_requested_before() {
        let folder = Folder::new("requested");
        let file = folder.0.join("gateway.toml");
        fs::write(&file, "1").unwrap();
        let (mut watch, trigger) = watching(&file);
        trigger.sender.observed(event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), &file));
        trigger.trigger();
        trigger.sender.observed(event(EventKind::Access(AccessKind::Close(AccessMode::Write)), &file));
        assert_eq!(watch.wait(), Some(ReloadReason::Asked));
        assert_eq!(watch.wait(), Some(ReloadReason::Changed));
        assert!(watch.messages.try_recv().is_err(), "the end of the edit was not waited for");
    }

    #[test]
    fn a_folder_that_was_recreated_is_read_once_more() {
        let folder = Folder::new("recreated");
        let (conf, away) = (folder.0.join("conf"), folder.0.join("away"));
        let file = conf.join("gateway.toml");
        let files = BTreeSet::from([file.clone()]);
        let make = || {
            fs::create_dir(&conf).unwrap();
            fs::write(&file, "1").unwrap();
        };
        make();
        let (mut watch, _bell) = watching(&file);
        let gone: [&dyn Fn(); 2] =
            [&|| fs::remove_dir_all(&conf).unwrap(), &|| fs::rename(&conf, &away).unwrap()];
        for gone in gone {
            assert!(!watch.follow(&files));
            gone();
            make();
            // The removal of the folder may be reported after events inside it.
            loop {
                let (next, reason) = next(watch);
                watch = next;
                assert_eq!(reason, Some(ReloadReason::Changed));
                if watch.follow(&files) {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_requested_reload_is_heard_and_other_files_are_ignored() {
        let folder = Folder::new("trigger");
        let file = folder.0.join("gateway.toml");
        fs::write(&file, "1").unwrap();
        let (mut watch, trigger) = watching(&file);
        fs::write(folder.0.join("another"), "2").unwrap();
        fs::read(&file).unwrap();
        trigger.trigger();
        assert_eq!(watch.wait(), Some(ReloadReason::Asked));
        drop(trigger);
        assert_eq!(watch.wait(), None);
    }
}
