//! Where the counts of limits are: in this process, or in the shared store.

use std::sync::Arc;

use crate::{
    exchange::now,
    limit::{Admitted, Applied, Counter, Demand, Refused},
    snapshot::LimitIndex,
    store::StoreWait,
};

/// Takes what a request is expected to use, which has had its turn in the queues of these subjects: of the counts of this process, or of the shared
/// ones, which are waited for no longer than `wait` allows.
///
/// # Errors
/// The first limit that refuses.
pub(super) async fn take_turn(
    index: &LimitIndex,
    limits: &[Applied],
    demand: Demand,
    turns: &[Arc<Counter>],
    wait: &mut StoreWait,
) -> Result<Admitted, Refused> {
    match index.sharing() {
        None => Admitted::take_turn(limits, demand, now(), turns),
        // Boxed: without a shared store, the future of a request is no larger.
        Some(sharing) => Box::pin(sharing.take_turn(limits, demand, turns, wait)).await,
    }
}
