//! Listening sockets, bound here or handed in.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// A listening socket and the listener that it belongs to.
#[derive(Debug)]
pub struct Socket {
    pub(super) address: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) listener: TcpListener,
    pub(super) origin: Origin,
}

/// Who owns a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process alone: closing it refuses new clients.
    Bound,
    /// Another process keeps it open and will let the next process accept from it.
    Inherited,
}

/// Why a listening socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("cannot listen on {address}: the address is already in use")]
    InUse {
        /// The address that was wanted.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A port below 1024 without the permission for it.
    #[error("cannot listen on {address}: not permitted (a port below 1024 needs CAP_NET_BIND_SERVICE)")]
    NotPermitted {
        /// The address that was wanted.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The address is not one of this machine.
    #[error("cannot listen on {address}: not an address of this machine")]
    NotLocal {
        /// The address that was wanted.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address that was wanted.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Binds `address`, with room for `backlog` connections that wait to be accepted. An IPv6 wildcard takes IPv6 alone.
pub fn bind(address: SocketAddr, backlog: u32) -> Result<Socket, BindError> {
    let listener = listening(address, backlog).map_err(|source| BindError::new(address, source))?;
    Socket::listening(address, listener, Origin::Bound)
}

impl Socket {
    /// Wraps a socket for the listener that is configured as `address`.
    pub(super) fn listening(
        address: SocketAddr,
        listener: TcpListener,
        origin: Origin,
    ) -> Result<Self, BindError> {
        let local = listener
            .set_nonblocking(true)
            .and_then(|()| listener.local_addr())
            .map_err(|source| BindError::new(address, source))?;
        Ok(Self { address, local, listener, origin })
    }

    /// The actual local address: the configured one, with the port that the system chose for port 0.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The socket itself, not blocking.
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }
}

impl BindError {
    /// The address that was wanted.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::InUse { address, .. }
            | Self::NotPermitted { address, .. }
            | Self::NotLocal { address, .. }
            | Self::Other { address, .. } => *address,
        }
    }

    /// Why, without the address.
    pub fn reason(&self) -> String {
        match self {
            Self::InUse { .. } => "already in use".to_owned(),
            Self::NotPermitted { .. } => {
                "not permitted (a port below 1024 needs CAP_NET_BIND_SERVICE)".to_owned()
            }
            Self::NotLocal { .. } => "not an address of this machine".to_owned(),
            Self::Other { source, .. } => source.to_string(),
        }
    }

    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, source },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { address, source },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { address, source },
            _ => Self::Other { address, source },
        }
    }
}

/// `SO_REUSEADDR` lets a restart bind beside connections in TIME-WAIT; it does not let two processes listen (Linux, socket(7)).
/// socket2 sets close-on-exec.
fn listening(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Raises the limit of open files to the hard limit. The gateway needs two descriptors for each exchange.
pub(super) fn raise_open_files() {
    match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(limit) => tracing::debug!(limit, "open file limit raised"),
        Err(error) => tracing::warn!(%error, "open file limit (RLIMIT_NOFILE) could not be raised"),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn an_address_in_use_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let error = bind(first.local(), 16).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {}: the address is already in use", first.local())
        );
        assert!(error.source().is_some());
    }

    #[test]
    fn a_foreign_address_is_named() {
        let error = bind("192.0.2.1:0".parse().unwrap(), 16).unwrap_err();
        assert!(matches!(error, BindError::NotLocal { .. }), "{error}");
    }

    #[test]
    fn an_ipv6_wildcard_leaves_the_port_to_ipv4() {
        let six = bind("[::]:0".parse().unwrap(), 16).unwrap();
        let four: SocketAddr = format!("0.0.0.0:{}", six.local().port()).parse().unwrap();
        bind(four, 16).unwrap();
    }
}
