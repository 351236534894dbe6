//! What is run on each new connection.

use std::sync::LazyLock;

use super::{
    script::{ADMIT, ADMIT_BY_RATES, APPLY},
    wire::{Asker, admission, changes},
};
use crate::store::{Script, ScriptCall};

/// Uses the commands by which scripts keep values. A user that lacks one of them could admit nothing.
static VALUES: LazyLock<Script> = LazyLock::new(|| Script::new(&[include_str!("probe.lua")]));

/// Calls that show whether the user may do all that limits need, and that have the server know the scripts, so that no request has to send
/// one. They leave nothing behind. Servers of a cluster that do not get them get the scripts with their first calls.
pub fn probes(prefix: &str) -> Vec<ScriptCall> {
    let nobody = Asker { node: 0, session: 0 };
    let idle = |script, arguments| ScriptCall { script, keys: Vec::new(), arguments };
    let admit = |script| idle(script, admission(nobody, &[], &[]));
    let key = format!("{prefix}:probe:{:x}", fastrand::u64(..));
    let values = ScriptCall { script: &VALUES, keys: vec![key.into()], arguments: Vec::new() };
    vec![values, admit(&ADMIT), admit(&ADMIT_BY_RATES), idle(&APPLY, vec![changes(nobody, 0, &[])])]
}
