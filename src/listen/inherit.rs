//! Listening sockets that the service manager holds and passes to each process that it starts (`LISTEN_FDS`, sd_listen_fds(3)).
//! Connections that arrive between two processes wait in them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use listenfd::ListenFd;

use super::{
    BindError, Socket,
    bind::{self, Origin},
};

/// Inherited listening sockets that no listener has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Inherited descriptors that are not listening TCP sockets.
    unfit: Vec<io::Error>,
}

impl Inherited {
    /// Takes the sockets that the environment names. Must be called once, before there are threads: it removes the variables from
    /// the environment, so that no child process uses them.
    pub fn from_env() -> Self {
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for number in 0..handed.len() {
            let taken = handed.take_tcp_listener(number).transpose();
            match taken.map(|listener| listener.and_then(|socket| Ok((socket.local_addr()?, socket)))) {
                Some(Ok(socket)) => inherited.sockets.push(socket),
                Some(Err(error)) => inherited.unfit.push(error),
                None => {}
            }
        }
        inherited
    }

    /// The socket for `address`: an inherited one for that address, or a new one.
    ///
    /// # Errors
    /// [`BindError`]
    pub fn or_bind(&mut self, address: SocketAddr, backlog: u32) -> Result<Socket, BindError> {
        let exact = self.sockets.iter().position(|(local, _)| *local == address);
        // `ListenStream=8443` is [::]:8443 for both families, which "0.0.0.0:8443" means as well as "[::]:8443".
        let wildcard = |local: &SocketAddr| {
            local.port() == address.port() && local.ip().is_unspecified() && address.ip().is_unspecified()
        };
        match exact.or_else(|| self.sockets.iter().position(|(local, _)| wildcard(local))) {
            Some(at) => Socket::listening(address, self.sockets.swap_remove(at).1, Origin::Inherited),
            None => bind::bind(address, backlog),
        }
    }

    /// Logs the sockets that no listener has taken. They are not closed, because they belong to the service manager.
    pub fn report_left(&self) {
        for (address, _) in &self.sockets {
            tracing::error!(%address, "inherited socket matches no configured address: connections to it are not accepted");
        }
        for error in &self.unfit {
            tracing::error!(%error, "inherited file descriptor is not a listening TCP socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(address: &str) -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind(address).unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    #[test]
    fn a_socket_is_taken_by_the_listener_of_its_address_and_others_are_bound() {
        let (one, other) = (listening("127.0.0.1:0"), listening("127.0.0.1:0"));
        let (first, second) = (one.0, other.0);
        let mut inherited = Inherited { sockets: vec![one, other], unfit: Vec::new() };
        let taken = inherited.or_bind(second, 16).unwrap();
        assert_eq!((taken.local(), taken.origin), (second, Origin::Inherited));
        let bound = inherited.or_bind("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        assert_eq!(bound.origin, Origin::Bound);
        assert_eq!(inherited.sockets.iter().map(|(local, _)| *local).collect::<Vec<_>>(), [first]);
        // The inherited socket already listens there, so the address cannot be bound again.
        assert!(matches!(Inherited::default().or_bind(first, 16), Err(BindError::InUse { .. })));
    }

    #[test]
    fn a_wildcard_of_both_families_is_one_of_either() {
        let both = listening("[::]:0");
        let port = both.0.port();
        let mut inherited = Inherited { sockets: vec![both], unfit: Vec::new() };
        let specific = format!("127.0.0.1:{port}").parse().unwrap();
        assert!(inherited.or_bind(specific, 16).is_err(), "another address of a port in use");
        let taken = inherited.or_bind(format!("0.0.0.0:{port}").parse().unwrap(), 16).unwrap();
        assert_eq!((taken.local().port(), taken.origin), (port, Origin::Inherited));
    }
}
