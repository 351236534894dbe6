//! `health`: is the gateway ready? For the health check of a container.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::ask::{self, Answer};
use crate::config::{self, Problems};

/// The most bytes of a response that are read: its head and a word.
const MOST_READ: usize = 4096;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct HealthOptions {
    #[command(flatten)]
    pub(super) config: super::ConfigFile,
    /// Address of the admin listener, instead of the one in the configuration file
    #[arg(long, value_name = "ADDR", value_parser = super::address)]
    admin: Option<SocketAddr>,
    /// How long to wait for the answer
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = crate::span::parse)]
    timeout: Duration,
}

/// Why no admin listener is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoListener {
    #[error(transparent)]
    Config(#[from] Problems),
    #[error("{} has no [admin] table, so nothing can be asked: add one, or name the address with --admin", .0.display())]
    NoAdmin(PathBuf),
}

/// Why the gateway does not count as ready.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    NoListener(#[from] NoListener),
    #[error("admin listener {0} does not answer")]
    Unreachable(SocketAddr, #[source] io::Error),
    #[error("not ready: admin listener {0} answers {1:?}")]
    NotReady(SocketAddr, String),
}

/// Prints "ready" and returns 0, or the reason and 1.
pub(super) fn run(file: &Path, options: &HealthOptions) -> ExitCode {
    match ready(file, options) {
        Ok(()) => super::print("ready\n"),
        Err(error) => super::fail(&error),
    }
}

fn ready(file: &Path, options: &HealthOptions) -> Result<(), Error> {
    let address = admin_listener(file, options.admin)?;
    let request =
        ask::Request { address, path: "/readyz", token: None, timeout: options.timeout, most: MOST_READ };
    let Answer { status, body } = ask::get(&request).map_err(|error| Error::Unreachable(address, error))?;
    if status == "200" {
        return Ok(());
    }
    Err(Error::NotReady(address, format!("{status} {}", body.trim()).trim().to_owned()))
}

/// The address at which the admin listener is asked: `named`, or the one of the configuration file.
pub(super) fn admin_listener(file: &Path, named: Option<SocketAddr>) -> Result<SocketAddr, NoListener> {
    let address = match named {
        Some(address) => address,
        None => config::admin_address(file)?.ok_or_else(|| NoListener::NoAdmin(file.to_owned()))?,
    };
    Ok(ask::reachable(address))
}
