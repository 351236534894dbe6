//! A worker's life: takes connections as they are handed to it, and knows when it has none left.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::spawn_local,
    time,
};

use super::{
    clock::CUT_GRACE,
    counters::Counters,
    roster::{Phase, Roster},
    serve::{Accepted, Handler, ServeContext, serve},
    workers::{WorkerQuery, WorkerView},
};
use crate::{
    body::ConnectionState,
    proxy::{Gateway, Load},
};

/// After a cut and its grace, what has not ended by then is dropped with its worker.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(1);

/// What a worker is given when it starts.
#[derive(Debug)]
pub(super) struct WorkerParts {
    pub(super) gateway: Arc<Gateway>,
    pub(super) counters: Arc<Counters>,
    pub(super) load: Arc<Load>,
    pub(super) arrivals: mpsc::Receiver<Accepted>,
    pub(super) questions: mpsc::Receiver<WorkerQuery>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Exchanges cut by a drain, all workers together.
    pub(super) cut: Arc<AtomicUsize>,
}

/// Serves until no connection comes any more, the last one is closed and what is read on without one is over, or until all are cut.
pub(super) async fn work<H: Handler>(bench: WorkerParts, handler: H) {
    let WorkerParts { gateway, counters, load, mut arrivals, mut questions, mut phase, cut } = bench;
    let roster = Rc::new(Roster::default());
    let station = WorkerView { roster: roster.clone(), load };
    let post = Rc::new(ServeContext { gateway, counters, handler });
    let mut coming = true;
    loop {
        tokio::select! {
            biased;
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
                let entered = *phase.borrow_and_update();
                if entered == Phase::Cut {
                    cut.fetch_add(station.unseen(), Ordering::Relaxed);
                }
                cut.fetch_add(roster.enter(entered), Ordering::Relaxed);
                if entered == Phase::Cut {
                    break;
                }
            }
            Some(question) = questions.recv() => (question.0)(&station),
            arrival = arrivals.recv(), if coming => match arrival {
                Some(arrival) => begin(arrival, &post, &roster),
                None => coming = false,
            },
            () = station.idle(), if !coming => return,
        }
    }
    let _ = time::timeout(CUT_GRACE + LAST_GRACE, roster.empty()).await;
}

/// A task of its own: its panic ends that connection alone. On the roster from here on, before the task first runs.
fn begin<H: Handler>(arrival: Accepted, post: &Rc<ServeContext<H>>, roster: &Rc<Roster>) {
    let link = ConnectionState::new(Instant::now());
    let enrolled = roster.enrol(link.clone());
    spawn_local(serve(arrival, link, enrolled, post.clone()));
}
