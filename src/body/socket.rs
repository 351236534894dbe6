//! The socket of a client connection, and what the kernel knows of the bytes written to it.

use std::{
    cell::{RefCell, RefMut},
    rc::{Rc, Weak},
};

use nix::sys::socket::{getsockopt, sockopt::GetStruct};
use tokio::net::TcpStream;

/// The socket of a client connection. Its owner reads and writes; a [`SocketWatch`] asks the kernel about it meanwhile.
#[derive(Debug)]
pub struct ClientSocket(Rc<RefCell<TcpStream>>);

/// Asks the kernel about a [`ClientSocket`] for as long as that exists.
#[derive(Debug, Default)]
pub struct SocketWatch(Weak<RefCell<TcpStream>>);

/// The first fields of Linux's `struct tcp_info` (`include/uapi/linux/tcp.h`), in units of 8 bytes. Every kernel since 4.2 fills these.
type TcpInfo = [u64; 17];

/// The place of `tcpi_bytes_acked` in a [`TcpInfo`].
const BYTES_ACKED: usize = 15;

/// The place of `tcpi_bytes_received` in a [`TcpInfo`].
const BYTES_RECEIVED: usize = 16;

/// The option `TCP_INFO` of tcp(7).
#[derive(Debug, Clone, Copy)]
struct TcpInfoOption;

// Any bytes are a valid array of integers, so a kernel with other fields could give a wrong number and nothing worse.
nix::getsockopt_impl!(TcpInfoOption, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, GetStruct<TcpInfo>);

impl ClientSocket {
    /// Takes over a connected socket.
    pub fn new(tcp: TcpStream) -> Self {
        Self(Rc::new(RefCell::new(tcp)))
    }

    /// The socket, for one call.
    pub fn tcp(&self) -> RefMut<'_, TcpStream> {
        self.0.borrow_mut()
    }

    /// The socket, for as long as it is needed, if nothing watches it.
    pub fn exclusive(&mut self) -> Option<&mut TcpStream> {
        Rc::get_mut(&mut self.0).map(RefCell::get_mut)
    }

    /// A watch on this socket. It does not keep the socket open.
    pub fn watch(&self) -> SocketWatch {
        SocketWatch(Rc::downgrade(&self.0))
    }
}

impl SocketWatch {
    /// Number of bytes that the peer has acknowledged since the connection was accepted; `None` if there is no socket or the kernel does
    /// not tell.
    ///
    /// A peer acknowledges what its kernel has room for, so this number stands still when nobody reads there. (RFC 4898 calls it
    /// `tcpEStatsAppHCThruOctetsAcked`.)
    ///
    /// A kernel that has counted neither these nor received bytes does not count: gVisor leaves both fields empty
    /// (`pkg/sentry/socket/netstack`, `TCP_INFO`), and every client would seem to take nothing there.
    pub fn acknowledged(&self) -> Option<u64> {
        let tcp = self.0.upgrade()?;
        let info = getsockopt(&*tcp.try_borrow().ok()?, TcpInfoOption).ok()?;
        let (acknowledged, received) = (*info.get(BYTES_ACKED)?, *info.get(BYTES_RECEIVED)?);
        (acknowledged > 0 || received > 0).then_some(acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin};

    use tokio::{
        io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn the_kernel_counts_what_the_peer_has_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = ClientSocket::new(listener.accept().await.unwrap().0);
        let watch = socket.watch();
        assert_eq!(watch.acknowledged(), None, "a kernel that counts nothing looks like this");
        peer.write_all(b"request").await.unwrap();
        poll_fn(|cx| socket.tcp().poll_read_ready(cx)).await.unwrap();
        assert_eq!(watch.acknowledged(), Some(0));
        let mut received = [0; 1000];
        for sent in 1..=3 {
            let written = poll_fn(|cx| Pin::new(&mut *socket.tcp()).poll_write(cx, &[b'x'; 1000])).await;
            assert_eq!(written.unwrap(), 1000);
            peer.read_exact(&mut received).await.unwrap();
            // The peer's kernel may delay its acknowledgement.
            while watch.acknowledged() < Some(1000 * sent) {
                tokio::task::yield_now().await;
            }
            assert_eq!(watch.acknowledged(), Some(1000 * sent));
        }
        drop(socket);
        assert_eq!(watch.acknowledged(), None);
    }
}
