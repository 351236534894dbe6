//! Clients that have files of their own: applies what the files say, and reports what is wrong with them.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    config::{ClientChange, ClientEvents, ClientFiles, ClientFilesReport, ClientScope, Config, FileProblem},
    proxy::{ClientsApplied, Gateway},
    snapshot::{ClientConflict, CompileError, Snapshot},
};

/// Broken files that are logged at once, by name.
const LOGGED: usize = 20;

/// Rounds in which files are read again because a client with which they were in conflict has changed.
const ROUNDS: usize = 8;

/// The files of clients that a gateway follows; none without `[client_files]`.
#[derive(Debug, Default)]
pub(super) struct FileClients {
    files: Option<ClientFiles>,
}

impl FileClients {
    /// Reads the files that `config` names.
    pub(super) fn read(config: &Config) -> (Self, Vec<ClientChange>) {
        let Some((files, changes)) = config.read_client_files() else { return Default::default() };
        (Self { files: Some(files) }, changes)
    }

    /// The snapshot with the clients of the files, before a gateway serves it.
    pub(super) fn begin(&mut self, snapshot: Snapshot, changes: Vec<ClientChange>) -> Snapshot {
        if changes.is_empty() {
            return snapshot;
        }
        let changed = snapshot.with_clients(changes);
        self.refuse(changed.conflicts);
        changed.snapshot
    }

    /// What changes for clients with files because of a new configuration, which is not in effect yet.
    pub(super) fn under(&mut self, config: &Config, live: &Snapshot) -> Vec<ClientChange> {
        let Some(wanted) = &config.client_files else {
            self.files = None;
            return Vec::new();
        };
        if self.files.as_ref().is_none_or(|files| files.directory() != wanted) {
            let (read, changes) = Self::read(config);
            *self = read;
            return changes;
        }
        let Some(files) = &mut self.files else { return Vec::new() };
        files.rescope(ClientScope::of(config));
        files.forget_broken();
        for (name, client) in &config.clients {
            files.forget(name);
            let owners = client.keys.iter().filter_map(|key| live.callers.by_key(key.as_bytes()));
            owners.for_each(|owner| files.forget(&owner.name));
        }
        files.search()
    }

    /// Notes that a new configuration has not taken effect, nor what it changed for clients.
    pub(super) fn refused(&mut self) {
        if let Some(files) = &mut self.files {
            files.forget_all();
        }
    }

    /// Reads what may have changed, and gives it to the gateway.
    pub(super) fn follow(&mut self, events: ClientEvents, gateway: &Gateway) {
        let Some(files) = &mut self.files else { return };
        let mut changes = if events.any { files.search() } else { files.read(events.files) };
        let (mut all_changed, mut all_gone) = (0, 0);
        for _ in 0..ROUNDS {
            let names: BTreeSet<Arc<str>> = changes.iter().map(|change| change.name.clone()).collect();
            // Before this round's own conflicts are known.
            let freed = files.blocked_by(&names);
            if !changes.is_empty() {
                let ClientsApplied { changed, gone, conflicts } = gateway.change_clients(changes);
                all_changed += changed;
                all_gone += gone;
                refuse(files, conflicts);
            }
            if freed.is_empty() {
                break;
            }
            changes = files.read(freed);
        }
        self.report(gateway);
        if all_changed + all_gone > 0 {
            tracing::info!(changed = all_changed, gone = all_gone, "client files read");
        }
    }

    /// Logs what is wrong with files and was not logged before, and has `/status` show the state.
    pub(super) fn report(&mut self, gateway: &Gateway) {
        let Some(files) = &mut self.files else {
            gateway.client_files.store(None);
            return;
        };
        let (broken, warnings) = (files.newly_broken(), files.new_warnings());
        gateway.client_files.store(Some(Arc::new(files.report())));
        for FileProblem { file, problem } in broken.iter().take(LOGGED) {
            tracing::error!(file, "client file not used, its client stays as it was: {problem}");
        }
        if broken.len() > LOGGED {
            tracing::error!(files = broken.len() - LOGGED, "more client files not used; /status lists them");
        }
        for FileProblem { file, problem } in warnings.iter().take(LOGGED) {
            tracing::warn!(file, "client file may have a mistake: {problem}");
        }
        if warnings.len() > LOGGED {
            let more = warnings.len() - LOGGED;
            tracing::warn!(warnings = more, "more client files may have mistakes; /status lists them");
        }
    }

    /// Notes the files that are in conflict with other clients.
    pub(super) fn refuse(&mut self, conflicts: Vec<ClientConflict>) {
        if let Some(files) = &mut self.files {
            refuse(files, conflicts);
        }
    }
}

/// Compiles a configuration with the clients that have files, without a gateway, and returns what is wrong with their files.
///
/// # Errors
/// [`CompileError`].
pub fn compile_with_client_files(config: Config) -> Result<(Snapshot, ClientFilesReport), CompileError> {
    let (mut clients, changes) = FileClients::read(&config);
    let snapshot = clients.begin(Snapshot::compile(config, None)?, changes);
    let report = clients.files.map(|files| files.report()).unwrap_or_default();
    Ok((snapshot, report))
}

fn refuse(files: &mut ClientFiles, conflicts: Vec<ClientConflict>) {
    for ClientConflict { name, with, place } in conflicts {
        let problem = if name == with {
            format!("client `{name}` is defined in {place} too; remove one of the two")
        } else {
            format!(
                "a key of the file is a key of client `{with}` too, in {place}; each key may belong to one client only"
            )
        };
        files.refuse(&name, problem, with);
    }
}
