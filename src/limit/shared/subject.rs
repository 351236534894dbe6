//! Whose counts a value in the shared store has, and the names of its keys.

use std::sync::Arc;

use crate::limit::{Allowance, Limit, Unit};

/// One client, group, route or model, or the gateway: what all its limits count is one value in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The part of the key that decides where a cluster keeps it (Redis Cluster specification, "Hash tags"). A group and its clients are in
    /// one place, so that one script admits a request under the limits of both; everything else is in another one.
    pub(super) slot: Arc<str>,
    pub(super) key: Arc<str>,
}

impl Subject {
    /// A client of a group; `None`: a client without one.
    pub fn client(prefix: &str, name: Option<&str>, group: Option<&str>) -> Self {
        let slot = slot(name, group);
        Self::new(prefix, slot, format_args!("c:{}", name.unwrap_or_default()))
    }

    /// The group of a client, or the client itself if it has none.
    pub fn group(prefix: &str, client: Option<&str>, group: Option<&str>) -> Self {
        Self::new(prefix, slot(client, group), format_args!("g"))
    }

    /// A route.
    pub fn route(prefix: &str, name: &str) -> Self {
        Self::new(prefix, ALL.into(), format_args!("r:{name}"))
    }

    /// A model by the name of its table or by a pattern of a limit; `None`: every other model.
    pub fn model(prefix: &str, name: Option<&str>) -> Self {
        Self::new(prefix, ALL.into(), format_args!("m:{}", name.unwrap_or_default()))
    }

    /// All gateways together.
    pub fn gateway(prefix: &str) -> Self {
        Self::new(prefix, ALL.into(), format_args!("w"))
    }

    fn new(prefix: &str, slot: String, rest: std::fmt::Arguments<'_>) -> Self {
        let key = format!("{prefix}:{slot}:{rest}");
        Self { slot: slot.into(), key: key.into() }
    }
}

const ALL: &str = "{all}";

fn slot(client: Option<&str>, group: Option<&str>) -> String {
    match (group, client) {
        (Some(group), _) => format!("{{g:{group}}}"),
        (None, Some(client)) => format!("{{c:{client}}}"),
        (None, None) => "{anonymous}".to_owned(),
    }
}

/// What identifies the count of one unit of a limit within the value of a subject: the limit's name, the unit, and the time for which its
/// number is meant. With another time, counts start again. All gateways compute the same.
pub(super) fn tag(limit: &Limit, unit: Unit) -> u32 {
    let allowance = match unit {
        Unit::Requests => limit.requests.as_ref(),
        Unit::Tokens => limit.tokens.as_ref(),
        Unit::Cost => limit.cost.as_ref(),
        Unit::Concurrent => None,
    };
    let per = match allowance {
        None => String::new(),
        Some(Allowance::Rate(rate)) => rate.period().as_nanos().to_string(),
        Some(Allowance::Period { calendar, .. }) => calendar.name(),
    };
    let text = format!("{}\0{}\0{per}", limit.name, unit.name());
    // FNV-1a. Two counts of one subject would have to meet in 32 bits.
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_its_clients_are_in_one_place() {
        let client = Subject::client("gw", Some("team-a"), Some("research"));
        assert_eq!((&*client.slot, &*client.key), ("{g:research}", "gw:{g:research}:c:team-a"));
        let group = Subject::group("gw", Some("team-a"), Some("research"));
        assert_eq!((&group.slot, &*group.key), (&client.slot, "gw:{g:research}:g"));
    }

    #[test]
    fn a_client_without_a_group_is_one() {
        let client = Subject::client("gw", Some("team-a"), None);
        let group = Subject::group("gw", Some("team-a"), None);
        assert_eq!((&*client.key, &*group.key), ("gw:{c:team-a}:c:team-a", "gw:{c:team-a}:g"));
        assert_eq!(client.slot, group.slot);
        // A group of the same name is another one.
        assert_ne!(client, Subject::client("gw", Some("team-a"), Some("team-a")));
        assert_ne!(Subject::client("gw", None, None).slot, group.slot);
    }
}
