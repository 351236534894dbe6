//! The listening side of a simulator, on the caller's runtime or on threads of its own.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Options, connection, shared::Shared, tls};

const BACKLOG: i32 = 4096;
/// After a failed accept, so that running out of descriptors does not spin.
const BREATH: Duration = Duration::from_millis(10);

/// Accept loops; dropped, they end, and their connections with them.
pub(super) struct Server {
    addr: SocketAddr,
    stop: watch::Sender<()>,
    /// Closed when the last loop has ended.
    ended: mpsc::Receiver<()>,
}

/// What tells a loop to stop, and what it holds until then.
#[derive(Clone)]
struct Leash {
    stop: watch::Receiver<()>,
    /// Its drop says that the loop has ended.
    _running: mpsc::Sender<()>,
}

/// The TLS side, and the PEM of the CA if it was made for this.
pub(super) fn acceptor(options: &Options) -> io::Result<(Option<TlsAcceptor>, Option<String>)> {
    let Some(tls) = &options.tls else { return Ok((None, None)) };
    let (acceptor, ca_pem) = tls::acceptor(tls, options.protocols)?;
    Ok((Some(acceptor), ca_pem))
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
        let (server, leash) = Self::new(addr);
        tokio::spawn(accept(listener, acceptor, Arc::clone(shared), leash));
        Ok(server)
    }

    /// Listens on threads of its own; the kernel spreads the connections over them.
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
        let (server, leash) = Self::new(addr);
        for socket in sockets {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (acceptor, shared, leash) = (acceptor.cloned(), Arc::clone(shared), leash.clone());
            thread::Builder::new().name("simulator".to_owned()).spawn(move || {
                runtime.block_on(async {
                    match TcpListener::from_std(socket) {
                        Ok(listener) => accept(listener, acceptor, shared, leash).await,
                        Err(error) => tracing::error!(%error, "simulator thread has no listener"),
                    }
                });
            })?;
        }
        Ok(server)
    }

    fn new(addr: SocketAddr) -> (Self, Leash) {
        let (stop, stopped) = watch::channel(());
        let (running, ended) = mpsc::channel(1);
        (Self { addr, stop, ended }, Leash { stop: stopped, _running: running })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn stop(mut self) {
        drop(self.stop);
        // Nothing is ever sent: this ends when the last loop drops its leash.
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

/// Accepts until told to stop; its connections end with it. Their number is bounded by the process's descriptors.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>, mut leash: Leash) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(connection::serve(tcp, acceptor.clone(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "simulator cannot accept");
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // An error: the server has been dropped.
            _ = leash.stop.changed() => break,
        }
    }
    // By hand, because the leash, which says that all this is done, would be dropped before the listener.
    drop(listener);
    connections.shutdown().await;
}
