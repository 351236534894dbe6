//! `[client_files]`

use std::path::PathBuf;

use crate::config::declare::{Kind as _, directory, table};

table! {
    /// `[client_files]`: clients that have files of their own.
    #[derive(Debug)]
    pub(crate) struct ClientDirectory(table, context) {
        directory: Option<PathBuf> = directory().optional(),
            "Directory with one file for each client: `NAME.toml` has the keys of `[client.NAME]`, without that header. Files are read when they \
             change; a relative path starts at the folder of this file. Files must not be readable by all users of the machine.",
            { default: "none, so no client has a file", example: &[r#""clients.d""#], since: "0.2.0" };
    }
}
