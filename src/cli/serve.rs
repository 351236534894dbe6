//! `serve`: runs the gateway until a signal stops it.

use std::{path::Path, process::ExitCode};

use crate::{
    app::{App, Ended, Surroundings},
    config::{Reading, Source},
};

/// Exit code when the drain had to abort exchanges: the service stopped in order, but some clients got no complete response.
const CUT: u8 = 3;

/// Serves the file.
pub(super) fn run(file: &Path) -> ExitCode {
    let surroundings = Surroundings::from_env();
    let source = Source::new(file);
    let Reading { config, digest, .. } = source.read();
    let config = match config {
        Ok(config) => config,
        Err(problems) => return super::fail(&problems),
    };
    let started = App::start(config, surroundings).and_then(|app| app.following(source, digest));
    match started.and_then(App::run) {
        Ok(ended) => code(ended),
        Err(error) => super::fail(&error),
    }
}

/// The exit code of a run that was stopped.
pub(super) fn code(ended: Ended) -> ExitCode {
    match ended {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::Cut(_) => ExitCode::from(CUT),
    }
}
