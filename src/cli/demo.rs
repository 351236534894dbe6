//! `demo`: the gateway before the simulator.

use std::process::ExitCode;

use super::DemoOptions;

/// Runs both.
pub(super) fn run(_options: &DemoOptions) -> ExitCode {
    super::fail(&std::io::Error::from(std::io::ErrorKind::Unsupported))
}
