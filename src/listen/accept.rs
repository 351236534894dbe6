//! Accepting, in one place for all workers, and handing each connection to the worker with the least to do.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time,
};

use super::{bind::Origin, counters::Counters, roster::Phase, serve::Arrival, shut};
use crate::proxy::Load;

/// The pause after accepting failed for want of a resource, doubled up to the longest while that lasts.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many connections may be on their way to one worker.
pub(super) const ON_THE_WAY: usize = 1024;

/// A worker, seen from where connections are handed out.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) load: Arc<Load>,
    pub(super) arrivals: mpsc::Sender<Arrival>,
}

/// What all listening sockets share.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) seats: Vec<Seat>,
    pub(super) room: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
    turn: AtomicUsize,
}

/// One listening socket at work.
#[derive(Debug)]
pub(super) struct Entrance {
    /// As configured: the listener's key in the snapshot.
    pub(super) address: SocketAddr,
    pub(super) listener: tokio::net::TcpListener,
    pub(super) origin: Origin,
    pub(super) door: Arc<Door>,
}

impl Door {
    pub(super) fn new(seats: Vec<Seat>, max_connections: usize, counters: Arc<Counters>) -> Self {
        let room = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { seats, room, counters, turn: AtomicUsize::new(0) }
    }

    /// A full queue makes accepting wait. A worker that is gone takes the process down; its connection is dropped.
    async fn hand_over(
        &self,
        tcp: io::Result<TcpStream>,
        (listener, peer): (SocketAddr, SocketAddr),
        permit: OwnedSemaphorePermit,
    ) {
        self.counters.accepted.add();
        let (Ok(tcp), Some(seat)) = (tcp, self.seat()) else { return };
        let counted = seat.load.connection();
        let arrival = Arrival { tcp, peer, listener, counted, permit };
        if seat.arrivals.send(arrival).await.is_err() {
            tracing::debug!(%peer, "no worker for a connection");
        }
    }

    /// The worker with the least to do; among equals they take turns.
    fn seat(&self) -> Option<&Seat> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.seats.len())?;
        let (before, after) = self.seats.split_at_checked(turn)?;
        after.iter().chain(before).min_by_key(|seat| seat.load.weight())
    }
}

impl Entrance {
    /// Accepts until a drain begins, then what still waits in the backlog. The socket is closed on return.
    pub(super) async fn accept(self, mut phase: watch::Receiver<Phase>) {
        let mut failures = Failures::default();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(is_closing) => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    failures.over();
                    let Some(permit) = self.permit(&mut phase).await else { continue };
                    self.door.hand_over(tcp.into_std(), (self.address, peer), permit).await;
                }
                Err(error) => {
                    if let Some(pause) = failures.pause(&error, &self.door.counters) {
                        let _ = time::timeout(pause, phase.wait_for(is_closing)).await;
                    }
                }
            }
        }
        if self.origin == Origin::Bound && shut::to_newcomers(&self.listener) {
            let at_once = phase.wait_for(|phase| *phase == Phase::Cut);
            let _ = time::timeout(shut::handshakes(self.address.ip()), at_once).await;
        }
        self.empty_backlog().await;
    }

    /// A place within `max_connections`; when closing only one that is free.
    async fn permit(&self, phase: &mut watch::Receiver<Phase>) -> Option<OwnedSemaphorePermit> {
        let room = &self.door.room;
        tokio::select! {
            biased;
            permit = room.clone().acquire_owned() => permit.ok(),
            _ = phase.wait_for(is_closing) => room.clone().try_acquire_owned().ok(),
        }
    }

    /// Their handshake is done as far as the clients know, so closing the socket upon them would be a reset.
    async fn empty_backlog(self) {
        let Ok(listener) = self.listener.into_std() else { return };
        while let Ok((tcp, peer)) = listener.accept() {
            let Ok(permit) = self.door.room.clone().try_acquire_owned() else { return };
            let nonblocking = tcp.set_nonblocking(true).map(|()| tcp);
            self.door.hand_over(nonblocking, (self.address, peer), permit).await;
        }
    }
}

fn is_closing(phase: &Phase) -> bool {
    *phase >= Phase::Draining
}

/// A row of failures to accept.
#[derive(Debug, Default)]
struct Failures {
    pause: Option<Duration>,
}

impl Failures {
    fn over(&mut self) {
        self.pause = None;
    }

    /// How long to wait before accepting again; none when only that one connection was lost before it was accepted (accept(2)).
    /// Everything else is taken for want of a resource: trying again at once would spin.
    fn pause(&mut self, error: &io::Error, counters: &Counters) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock) {
            return None;
        }
        if self.pause.is_none() {
            counters.accept_failed.add();
            tracing::error!(%error, "cannot accept connections; trying again until it works");
        }
        let pause = self.pause.map_or(PAUSE, |last| LONGEST_PAUSE.min(last * 2));
        self.pause = Some(pause);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_in_the_backlog_is_accepted_before_the_socket_is_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let (sender, mut arrivals) = mpsc::channel(ON_THE_WAY);
        let seat = Seat { load: Arc::default(), arrivals: sender };
        let door = Arc::new(Door::new(vec![seat], 3, Arc::default()));
        let phase = watch::Sender::new(Phase::Draining);
        let entrance = Entrance { address, listener, origin: Origin::Bound, door };
        entrance.accept(phase.subscribe()).await;
        for client in clients {
            let arrival = arrivals.recv().await.unwrap();
            assert_eq!(arrival.peer, client.local_addr().unwrap());
        }
        assert!(TcpStream::connect(address).is_err());
    }
}
