//! One worker: takes connections from its queue and ends when none is left.

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
    registry::{ConnectionRegistry, Phase},
    serve::{Accepted, Handler, ServeContext, serve},
    workers::{WorkerQuery, WorkerView},
};
use crate::{
    body::ConnectionState,
    pause,
    proxy::{Gateway, Load},
};

/// What has not ended this long after a cut and its grace period is dropped with its worker.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(1);

/// How often open requests are compared with the times at which keys expire, if any request may have to be cut then. The wall clock may be
/// stepped, so no timer is set for such a time.
const EXPIRY_CHECK: Duration = Duration::from_secs(1);

/// What a worker is started with.
#[derive(Debug)]
pub(super) struct WorkerParts {
    pub(super) gateway: Arc<Gateway>,
    pub(super) counters: Arc<Counters>,
    pub(super) load: Arc<Load>,
    pub(super) accepted: mpsc::Receiver<Accepted>,
    pub(super) queries: mpsc::Receiver<WorkerQuery>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Exchanges aborted by a drain, counted over all workers.
    pub(super) cut: Arc<AtomicUsize>,
}

/// Serves until no connection can come, the last one is closed and every detached exchange has ended, or until the cut.
pub(super) async fn work<H: Handler>(parts: WorkerParts, handler: H) {
    let WorkerParts { gateway, counters, load, mut accepted, mut queries, mut phase, cut } = parts;
    let registry = Rc::new(ConnectionRegistry::default());
    let view = WorkerView { registry: registry.clone(), load };
    let mut replaced = gateway.replaced.subscribe();
    let context = Rc::new(ServeContext { gateway, counters, handler });
    let mut expiries = time::interval(EXPIRY_CHECK);
    expiries.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut may_expire = context.gateway.live.load().callers.may_cut_at_expiry();
    let mut coming = true;
    let mut watch = Box::pin(pause::watch());
    loop {
        tokio::select! {
            biased;
            () = &mut watch => {}
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
                let entered = *phase.borrow_and_update();
                if entered == Phase::Cut {
                    cut.fetch_add(view.detached_exchanges(), Ordering::Relaxed);
                }
                cut.fetch_add(registry.enter(entered), Ordering::Relaxed);
                if entered == Phase::Cut {
                    break;
                }
            }
            Ok(()) = replaced.changed() => {
                let snapshot = context.gateway.live.load();
                may_expire = snapshot.callers.may_cut_at_expiry();
                registry.cut_withdrawn(&snapshot.callers);
            }
            _ = expiries.tick(), if may_expire => registry.cut_withdrawn(&context.gateway.live.load().callers),
            Some(query) = queries.recv() => (query.0)(&view),
            connection = accepted.recv(), if coming => match connection {
                Some(connection) => begin(connection, &context, &registry),
                None => coming = false,
            },
            () = view.idle(), if !coming => return,
        }
    }
    drop(watch);
    let _ = time::timeout(CUT_GRACE + LAST_GRACE, registry.empty()).await;
}

/// Serves the connection in its own task, so that a panic ends this connection only. The connection is registered before the task
/// first runs.
fn begin<H: Handler>(connection: Accepted, context: &Rc<ServeContext<H>>, registry: &Rc<ConnectionRegistry>) {
    let state = ConnectionState::new(Instant::now());
    let entry = registry.register(state.clone());
    spawn_local(serve(connection, state, entry, context.clone()));
}
