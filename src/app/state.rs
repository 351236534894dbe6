//! What outlives a restart: the state directory, and what is in it.

use std::{env, path::PathBuf, sync::Arc};

use crate::{
    accounts::{AccountMap, FileMap, MemoryMap},
    snapshot::Snapshot,
};

/// `$STATE_DIRECTORY`; of several directories the first (systemd.exec(5), `StateDirectory=`).
pub(super) fn directory() -> Option<PathBuf> {
    let listed = env::var_os("STATE_DIRECTORY")?;
    env::split_paths(&listed).find(|path| !path.as_os_str().is_empty())
}

/// The memory of the accounts of ids: in the directory that the configuration names, else in `fallback`, else in this process alone. A directory
/// that cannot be used is reported, and does not keep the gateway from starting.
pub(super) fn accounts(snapshot: &Snapshot, fallback: Option<PathBuf>) -> Arc<dyn AccountMap> {
    let Some(directory) = snapshot.server.state_directory.clone().or(fallback) else {
        return Arc::new(MemoryMap::default());
    };
    match FileMap::open(&directory) {
        Ok(map) => Arc::new(map),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(
                %error, cause, directory = %directory.display(),
                "state directory cannot be used: which account knows an id is forgotten at a restart"
            );
            Arc::new(MemoryMap::default())
        }
    }
}
