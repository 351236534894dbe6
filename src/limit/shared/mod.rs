//! The same limits counted by several gateways together, in the shared store.
//!
//! - [`Sharing`]: admits requests by the store, tells it what they used, and counts alone while it is away.
//! - [`Subject`]: whose counts one value in the store has; [`Replica`]: what this process knows of them.
//! - `plan`, `wire` and the scripts (`*.lua`): one call for a client and its group, one for everything else. Pure.
//! - `sending`: calls of one admission that are on their way; `reserved` and `waiting`: what they ask for, until their replies are there.
//! - [`probes`]: what is run on each new connection.
//! - `ledger`: corrections on their way to the store, which `heartbeat` sends; `lease`: requests in flight, of which `reconcile` tells the store.
//! - `alone`: what this process counts by itself.

mod alone;
mod copy;
mod gateways;
mod heartbeat;
mod lease;
mod ledger;
mod plan;
mod probes;
mod reconcile;
mod remembered;
mod replica;
mod reserved;
mod script;
mod sending;
mod sharing;
mod subject;
mod waiting;
mod wire;

pub(super) use alone::CountedBy;
pub use probes::probes;
pub use replica::Replica;
pub use script::{ADMIT, ADMIT_BY_RATES, APPLY, NODES};
pub use sharing::{Sharing, SharingSettings, SharingState, ping};
pub(super) use sharing::{Used, now};
pub use subject::Subject;

#[cfg(test)]
mod tests;
