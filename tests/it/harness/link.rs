//! A network link to a server that can be made slow or broken: a TCP proxy on a thread of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

/// What a link does with bytes that come from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// Nothing is wrong.
    None,
    /// Bytes arrive so much later, in each direction.
    Delay(Duration),
    /// Every other reply arrives so much later, and with it what comes after it.
    DelayHalf(Duration),
    /// Requests arrive and replies do not.
    DropReplies,
    /// Of each reply the first half arrives, and then the connection is closed.
    CutReplies,
    /// Connections are accepted, and nothing arrives.
    Silent,
}

/// A running proxy; dropped, it closes its connections.
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    fault: watch::Sender<LinkFault>,
    /// Changes when all connections have to be closed.
    closes: watch::Sender<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What connections of a link share.
#[derive(Debug, Clone)]
struct Shared {
    to: SocketAddr,
    fault: watch::Receiver<LinkFault>,
    closes: watch::Receiver<()>,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

/// Bytes that have been read, and when they arrive; `None`: the connection is closed then.
type Parcel = (Instant, Option<Vec<u8>>);

/// Reads that have not arrived yet, of one direction of a connection.
const UNDER_WAY: usize = 65_536;

impl Link {
    /// Starts a link to a port of this machine, with nothing wrong.
    pub(crate) fn to(port: u16) -> Self {
        let (fault, faults) = watch::channel(LinkFault::None);
        let (closes, closing) = watch::channel(());
        let (stop, stopped) = oneshot::channel::<()>();
        let to = (Ipv4Addr::LOCALHOST, port).into();
        let shared = Shared { to, fault: faults, closes: closing };
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                report.send(listener.local_addr().unwrap().port()).unwrap();
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        let port = started.recv().unwrap();
        Self { port, fault, closes, stop: Some(stop), thread: Some(thread) }
    }

    /// The value of `redis.url` through this link.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Changes what is wrong from now on.
    pub(crate) fn becomes(&self, fault: LinkFault) {
        self.fault.send_replace(fault);
    }

    /// Closes all connections.
    pub(crate) fn close(&self) {
        self.closes.send_replace(());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(connection(client, shared.clone()));
    }
}

async fn connection(client: TcpStream, shared: Shared) {
    let Ok(server) = TcpStream::connect(shared.to).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut closes = shared.closes.clone();
    closes.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(from_client, to_server, Direction::Requests, shared.fault.clone()) => {}
        () = carry(from_server, to_client, Direction::Replies, shared.fault) => {}
        _ = closes.changed() => {}
    }
}

/// Carries bytes in their order until one side closes.
async fn carry(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    fault: watch::Receiver<LinkFault>,
) {
    let (parcels, arriving) = mpsc::channel(UNDER_WAY);
    let reading = async move {
        let mut count = 0_u64;
        let mut bytes = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            count += 1;
            let fault = *fault.borrow();
            for parcel in sent(&bytes[..length], fault, direction, count) {
                let _ = parcels.send(parcel).await;
            }
        }
    };
    let arriving = arrive(arriving, to);
    tokio::pin!(arriving);
    tokio::select! {
        () = &mut arriving => {}
        () = reading => arriving.await,
    }
}

/// What arrives of bytes that were read, and when.
fn sent(bytes: &[u8], fault: LinkFault, direction: Direction, count: u64) -> Vec<Parcel> {
    let now = Instant::now();
    let whole = Some(bytes.to_vec());
    match (fault, direction) {
        (LinkFault::Delay(delay), _) => vec![(now + delay, whole)],
        (LinkFault::DelayHalf(delay), Direction::Replies) if count.is_multiple_of(2) => {
            vec![(now + delay, whole)]
        }
        (LinkFault::DropReplies, Direction::Replies) | (LinkFault::Silent, _) => Vec::new(),
        (LinkFault::CutReplies, Direction::Replies) => {
            vec![(now, Some(bytes[..bytes.len() / 2].to_vec())), (now, None)]
        }
        _ => vec![(now, whole)],
    }
}

async fn arrive(mut arriving: mpsc::Receiver<Parcel>, mut to: OwnedWriteHalf) {
    while let Some((at, bytes)) = arriving.recv().await {
        sleep_until(at).await;
        let Some(bytes) = bytes else { return };
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
