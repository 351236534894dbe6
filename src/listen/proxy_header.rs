//! The PROXY protocol header (versions 1 and 2), which a load balancer sends before anything else.
//!
//! Source: HAProxy's `doc/proxy-protocol.txt`, sections 2.1 and 2.2.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::{Buf, BytesMut};
use ppp::{v1, v2};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// A version 1 line is at most this long, with its CRLF.
const MAX_V1: usize = 107;
/// A version 2 header begins with 12 bytes of signature, version and command, family, and a length in two bytes.
const V2_FIXED: usize = 16;
/// Bound of a version 2 header, extensions included; the format itself would allow 64 KiB.
const MAX_V2: usize = 4096;

/// Why the PROXY protocol header of a connection was rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error("peer is not among the trusted networks of the client_address setting")]
    Untrusted,
    #[error("connection does not start with a PROXY protocol header")]
    Missing,
    #[error("PROXY protocol header too long")]
    TooLong,
    #[error("malformed PROXY protocol header (version 1)")]
    V1(#[source] v1::BinaryParseError),
    #[error("malformed PROXY protocol header (version 2)")]
    V2(#[source] v2::ParseError),
    #[error("connection ended inside the PROXY protocol header")]
    Ended,
    #[error("PROXY protocol header could not be read")]
    Read(#[source] io::Error),
}

/// Reads the header from `tcp`. Returns the source address in it (`None`: the peer's own address applies) and leaves the bytes
/// behind the header in `ahead`.
pub(super) async fn read(
    tcp: &mut TcpStream,
    ahead: &mut BytesMut,
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    loop {
        if let Some(length) = length(ahead)? {
            let source = source(ahead.get(..length).unwrap_or_default())?;
            ahead.advance(length);
            return Ok(source);
        }
        // `length` has refused whatever is longer than a header may be, so one more reading is bounded as well.
        ahead.reserve(MAX_V2);
        let read = tcp.read_buf(ahead).await.map_err(ProxyHeaderError::Read)?;
        if read == 0 {
            return Err(ProxyHeaderError::Ended);
        }
    }
}

/// The length of the header at the start of `bytes`, once all of it has arrived.
fn length(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let length = if begins_like(bytes, v1::PROTOCOL_PREFIX.as_bytes()) {
        v1_length(bytes)?
    } else if begins_like(bytes, v2::PROTOCOL_PREFIX) {
        v2_length(bytes)?
    } else {
        return Err(ProxyHeaderError::Missing);
    };
    Ok(length.filter(|length| bytes.len() >= *length))
}

fn begins_like(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

fn v1_length(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let line = bytes.get(..MAX_V1).unwrap_or(bytes);
    match memchr::memchr(b'\n', line) {
        Some(end) => Ok(Some(end + 1)),
        None if line.len() == MAX_V1 => Err(ProxyHeaderError::TooLong),
        None => Ok(None),
    }
}

fn v2_length(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let Some(&[high, low]) = bytes.get(V2_FIXED - 2..V2_FIXED) else { return Ok(None) };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 { Err(ProxyHeaderError::TooLong) } else { Ok(Some(length)) }
}

/// The source address in a complete `header`. `UNKNOWN`, `LOCAL` and families other than IP contain none.
fn source(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    if header.starts_with(v2::PROTOCOL_PREFIX) {
        let header = v2::Header::try_from(header).map_err(ProxyHeaderError::V2)?;
        return Ok(match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                Some((IpAddr::from(ip.source_address), ip.source_port).into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                Some((IpAddr::from(ip.source_address), ip.source_port).into())
            }
            _ => None,
        });
    }
    let header = v1::Header::try_from(header).map_err(ProxyHeaderError::V1)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(ip) => Some((IpAddr::from(ip.source_address), ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((IpAddr::from(ip.source_address), ip.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_not_taken_before_it_is_whole() {
        let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
        for end in 0..header.len() {
            assert_eq!(length(&header[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(length(&[header, &b"GET /"[..]].concat()).unwrap(), Some(header.len()));
        assert_eq!(source(header).unwrap(), Some("203.0.113.7:4711".parse().unwrap()));
    }

    #[test]
    fn unknown_and_local_tell_no_address() {
        assert_eq!(source(b"PROXY UNKNOWN\r\n").unwrap(), None);
        let local = [v2::PROTOCOL_PREFIX, &[0x20, 0x00, 0, 0]].concat();
        assert_eq!(length(&local).unwrap(), Some(16));
        assert_eq!(source(&local).unwrap(), None);
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        assert!(matches!(length(b"PROXX"), Err(ProxyHeaderError::Missing)));
        assert!(matches!(length(b"GET / HTTP/1.1\r\n"), Err(ProxyHeaderError::Missing)));
        assert!(matches!(length(b"\r\n\r\nX"), Err(ProxyHeaderError::Missing)));
    }

    #[test]
    fn length_is_bounded() {
        let line = [b"PROXY ".as_slice(), &[b'x'; 101]].concat();
        assert!(matches!(length(&line), Err(ProxyHeaderError::TooLong)));
        let long = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(length(&long), Err(ProxyHeaderError::TooLong)));
    }

    #[test]
    fn a_malformed_header_is_refused() {
        assert!(matches!(
            source(b"PROXY TCP4 203.0.113.777 192.0.2.1 1 2\r\n"),
            Err(ProxyHeaderError::V1(_))
        ));
        let family = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat();
        assert!(matches!(source(&family), Err(ProxyHeaderError::V2(_))));
    }
}
