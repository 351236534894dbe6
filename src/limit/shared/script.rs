//! The scripts. All of what a subject has used is one value, which a script reads, changes and writes.

use std::sync::LazyLock;

use crate::store::Script;

/// Admits a request under all limits of some subjects, or under none.
pub static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[include_str!("value.lua"), include_str!("counts.lua"), include_str!("admit.lua")])
});

/// The same for rates only: without the functions for periods and leases, which cost time to make in each run.
pub static ADMIT_BY_RATES: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[include_str!("value.lua"), include_str!("admit.lua")]));

/// Applies corrections, and says which requests are in flight.
pub static APPLY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[include_str!("value.lua"), include_str!("counts.lua"), include_str!("apply.lua")])
});

/// Counts the gateways.
pub static NODES: LazyLock<Script> = LazyLock::new(|| Script::new(&[include_str!("nodes.lua")]));
