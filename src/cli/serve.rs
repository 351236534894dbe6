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
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Cut(_)) => ExitCode::from(CUT),
        Err(error) => super::fail(&error),
    }
}
