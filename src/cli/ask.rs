//! Requests of commands to the admin listener of a running gateway, in plain HTTP/1.1.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// A GET request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// Of the admin listener.
    pub(super) address: SocketAddr,
    /// With its query.
    pub(super) path: &'a str,
    /// The admin token, if one is needed.
    pub(super) token: Option<&'a str>,
    /// For all of the answer.
    pub(super) timeout: Duration,
    /// The most bytes of the answer that are read, its head included.
    pub(super) most: usize,
}

/// What the listener says.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status code, or nothing if the answer has none.
    pub(super) status: String,
    /// The body.
    pub(super) body: String,
}

/// A listener on all addresses is asked on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Asks, and reads the answer to its end.
///
/// # Errors
/// There is no connection, or it fails, or the time is over.
pub(super) fn get(request: &Request<'_>) -> io::Result<Answer> {
    let Request { address, path, token, timeout, most } = *request;
    let begun = Instant::now();
    let left = || timeout.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()).ok_or_else(too_slow);
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{token}\r\n")?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; PIECE]);
    while answer.len() < most {
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
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Answer { status, body: body.to_owned() })
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the time of --timeout is over")
}
