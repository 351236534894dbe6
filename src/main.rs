//! The `sluicegate` binary: argv → cli → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::cli::run()
}
