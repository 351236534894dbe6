//! `simulate`: the simulator alone.

use std::process::ExitCode;

use super::SimulateOptions;

/// Runs it.
pub(super) fn run(_options: &SimulateOptions) -> ExitCode {
    super::fail(&std::io::Error::from(std::io::ErrorKind::Unsupported))
}
