//! `health`: is the gateway ready? For the health check of a container.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;

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
    match ask(file, options) {
        Ok(()) => super::print("ready\n"),
        Err(error) => super::fail(&error),
    }
}

fn ask(file: &Path, options: &HealthOptions) -> Result<(), Error> {
    let address = admin_listener(file, options.admin)?;
    let answer = get(address, options.timeout).map_err(|error| Error::Unreachable(address, error))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let said = answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim();
    Err(Error::NotReady(address, format!("{status} {said}").trim().to_owned()))
}

/// The address at which the admin listener is asked: `named`, or the one of the configuration file.
pub(super) fn admin_listener(file: &Path, named: Option<SocketAddr>) -> Result<SocketAddr, NoListener> {
    let address = match named {
        Some(address) => address,
        None => config::admin_address(file)?.ok_or_else(|| NoListener::NoAdmin(file.to_owned()))?,
    };
    Ok(reachable(address))
}

/// A listener on all addresses is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The response to `GET /readyz`, which the admin listener gives in plain HTTP and without a token.
fn get(address: SocketAddr, timeout: Duration) -> io::Result<String> {
    let begun = Instant::now();
    let left = || timeout.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()).ok_or_else(too_slow);
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let (mut answer, mut piece) = (Vec::new(), [0; MOST_READ]);
    while answer.len() < MOST_READ {
        // The socket's own timeout would begin again with each byte.
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_slow()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the time of --timeout is over")
}
