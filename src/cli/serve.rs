//! `serve`: the gateway, until a signal ends it.

use std::{path::Path, process::ExitCode};

use crate::{
    app::{App, Ended},
    config,
};

/// Exit code when the drain had to cut exchanges: the service ended in order, some of its callers did not.
const CUT: u8 = 3;

/// Serves the file.
pub(super) fn run(file: &Path) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(problems) => return super::fail(&problems),
    };
    match App::start(config).and_then(App::run) {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Cut(_)) => ExitCode::from(CUT),
        Err(error) => super::fail(&error),
    }
}
