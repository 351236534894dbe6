//! Closing a listening socket without resetting queued connections.
//!
//! The kernel completes handshakes before anybody accepts, and closing the socket resets the connections that were not accepted.
//! So a filter first drops SYNs, which prevents new handshakes; handshakes in progress complete within a round trip and are
//! accepted; then the backlog is empty and the socket can be closed. A client whose SYN was dropped sends it again after a second
//! (RFC 6298 section 2) and is refused then, or reaches the next process that listens there.

use std::{net::IpAddr, time::Duration};

use socket2::{SockFilter, SockRef};

/// Time for handshakes in progress: a round trip around the world, or within this machine.
const FAR: Duration = Duration::from_millis(300);
const NEAR: Duration = Duration::from_millis(10);

/// How long handshakes in progress with `address` may take.
pub(super) fn handshake_grace(address: IpAddr) -> Duration {
    if address.to_canonical().is_loopback() { NEAR } else { FAR }
}

/// Classic BPF (Linux `Documentation/networking/filter.rst`). On a TCP socket the filter sees each segment from its TCP header
/// on.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Offset of the TCP flags (RFC 9293 section 3.1).
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// Stops new handshakes on `listener`. Returns false when the system does not allow the filter. Only for a socket that no other
/// process accepts from, because the filter applies to the socket, not to the process.
pub(super) fn block_new_handshakes(listener: &tokio::net::TcpListener) -> bool {
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    let attached = SockRef::from(listener).attach_filter(&filter);
    attached
        .inspect_err(|error| tracing::debug!(%error, "listening socket: SYN filter could not be attached"))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    #[tokio::test]
    async fn newcomers_are_not_let_in_and_those_inside_stay() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let inside = TcpStream::connect(address).unwrap();
        assert!(block_new_handshakes(&listener));
        // A SYN gets no response: neither a connection nor a refusal.
        let outside = TcpStream::connect_timeout(&address, Duration::from_millis(200)).unwrap_err();
        assert_eq!(outside.kind(), std::io::ErrorKind::TimedOut);
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, inside.local_addr().unwrap());
    }
}
