//! `serve`: the gateway, until a signal ends it.

use std::{path::Path, process::ExitCode};

/// Serves the file.
pub(super) fn run(_config: &Path) -> ExitCode {
    super::fail(&std::io::Error::from(std::io::ErrorKind::Unsupported))
}
