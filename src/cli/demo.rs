//! `demo`: the gateway in front of the simulator, with TLS, and commands to try it.

use std::{
    env, ffi::OsString, fs, io, os::unix::fs::DirBuilderExt, path::PathBuf, process::ExitCode, time::Duration,
};

use super::{
    DemoOptions, cert,
    run::{self, Access, Provider, Session, Tls},
};
use crate::{
    app::Ended,
    simulator::{Options, Simulator},
};

/// The key that the simulator requires and the gateway adds.
const UPSTREAM_KEY: &str = "sk-demo-upstream";

/// The variable that seems to have it.
const KEY_VARIABLE: &str = "SLUICEGATE_DEMO_KEY";

/// Pause between two words of a response.
const PACE: Duration = Duration::from_millis(40);

/// How many folders of earlier demos are passed over.
const MOST_FOLDERS: u32 = 1000;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Certificate(#[from] cert::Error),
    #[error("demo folder {} could not be created", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    #[error("simulated upstream could not be started")]
    Simulator(#[source] io::Error),
    #[error(transparent)]
    Run(#[from] run::Error),
}

/// The demo's temporary folder, removed when dropped.
struct Folder(PathBuf);

/// Runs both until a signal stops them.
pub(super) fn run(options: &DemoOptions) -> ExitCode {
    match demo(options) {
        Ok(ended) => super::serve::code(ended),
        Err(error) => super::fail(&error),
    }
}

fn demo(options: &DemoOptions) -> Result<Ended, Error> {
    let folder = Folder::new()?;
    folder.certify()?;
    let simulated = Options { require_key: Some(UPSTREAM_KEY.to_owned()), pace: PACE, ..Options::default() };
    let simulator = Simulator::spawn_threads(&simulated, 1).map_err(Error::Simulator)?;
    let DemoOptions { listen, plain, admin } = *options;
    let session = Session {
        listen: plain,
        tls: Some(Tls { address: listen, folder: &folder.0 }),
        admin,
        write: None,
        options: &[(listen, "--listen"), (plain, "--plain"), (admin, "--admin")],
        variable: &variable,
    };
    let provider = Provider::simulated(&simulator.url(), KEY_VARIABLE);
    Ok(session.serve_one(&provider, &Access::of(None, None).map_err(run::Error::from)?)?)
}

fn variable(name: &str) -> Option<OsString> {
    if name == KEY_VARIABLE { Some(OsString::from(UPSTREAM_KEY)) } else { env::var_os(name) }
}

impl Folder {
    fn new() -> Result<Self, Error> {
        let name = |attempt: u32| format!("sluicegate-demo-{}-{attempt}", std::process::id());
        let mut attempt = 0;
        loop {
            let path = env::temp_dir().join(name(attempt));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Of a demo that was killed: in a container, each has the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < MOST_FOLDERS => {
                    attempt += 1;
                }
                Err(error) => return Err(Error::Folder(path, error)),
            }
        }
    }

    fn certify(&self) -> Result<(), Error> {
        Ok(cert::Development::new(&[]).map_err(cert::Error::from)?.write(&self.0)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "demo folder could not be removed");
        }
    }
}
