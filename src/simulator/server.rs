//! The listener of a simulator, on the current runtime or on threads of its own.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{connection, shared::Shared};

const BACKLOG: i32 = 4096;
/// The pause after a failed accept. Without it, running out of file descriptors would spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// The accept loops. Dropping it stops them and closes their connections.
pub(super) struct Server {
    addr: SocketAddr,
    stop: watch::Sender<()>,
    /// Closed when the last loop has ended.
    ended: mpsc::Receiver<()>,
}

/// An accept loop's end of the two channels to its [`Server`].
#[derive(Clone)]
struct StopHandle {
    stop: watch::Receiver<()>,
    /// Dropped when the loop has ended.
    _running: mpsc::Sender<()>,
}

impl Server {
    /// Listens on the current runtime.
    pub(super) fn spawn(
        addr: SocketAddr,
        acceptor: Option<TlsAcceptor>,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let socket = bind(addr, false)?;
        let addr = socket.local_addr()?;
        let listener = TcpListener::from_std(socket)?;
        let (server, stop_handle) = Self::new(addr);
        tokio::spawn(accept(listener, acceptor, Arc::clone(shared), stop_handle));
        Ok(server)
    }

    /// Listens on threads of its own; the kernel distributes the connections among them.
    pub(super) fn spawn_threads(
        addr: SocketAddr,
        acceptor: Option<&TlsAcceptor>,
        shared: &Arc<Shared>,
        threads: usize,
    ) -> io::Result<Self> {
        let mut sockets = vec![bind(addr, threads > 1)?];
        let addr = sockets.first().map_or(Ok(addr), std::net::TcpListener::local_addr)?;
        for _ in 1..threads {
            sockets.push(bind(addr, true)?);
        }
        let (server, stop_handle) = Self::new(addr);
        for socket in sockets {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (acceptor, shared, stop_handle) =
                (acceptor.cloned(), Arc::clone(shared), stop_handle.clone());
            thread::Builder::new().name("simulator".to_owned()).spawn(move || {
                runtime.block_on(async {
                    match TcpListener::from_std(socket) {
                        Ok(listener) => accept(listener, acceptor, shared, stop_handle).await,
                        Err(error) => tracing::error!(%error, "simulator thread cannot listen"),
                    }
                });
            })?;
        }
        Ok(server)
    }

    fn new(addr: SocketAddr) -> (Self, StopHandle) {
        let (stop, stopped) = watch::channel(());
        let (running, ended) = mpsc::channel(1);
        (Self { addr, stop, ended }, StopHandle { stop: stopped, _running: running })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops the accept loops and returns when all of them have ended.
    pub(super) async fn stop(mut self) {
        drop(self.stop);
        // Nothing is ever sent: this returns when the last loop drops its handle.
        self.ended.recv().await;
    }
}

fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until the server stops, and then closes them. Their number is bounded by the process's file
/// descriptors.
async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stop_handle: StopHandle,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(connection::serve(tcp, acceptor.clone(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "simulator failed to accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // An error: the server has been dropped.
            _ = stop_handle.stop.changed() => break,
        }
    }
    // The listener is dropped explicitly: otherwise the stop handle, which reports that everything is closed, would be
    // dropped first.
    drop(listener);
    connections.shutdown().await;
}
