//! The clients, compiled: those of the configuration, and those that have files of their own.

use std::{collections::BTreeMap, sync::Arc};

use super::Snapshot;
use crate::{
    access::{Caller, Callers, KnownCaller, OwnTerms, Rights},
    config::{self, ClientChange, OnRevoke},
    priority::Priority,
};

/// The groups, compiled.
#[derive(Debug, Default)]
pub(super) struct CallerGroups(BTreeMap<Arc<str>, CallerGroup>);

/// What a group says of its clients.
#[derive(Debug)]
struct CallerGroup {
    name: Arc<str>,
    rights: Arc<Rights>,
    priority: Option<Priority>,
    cut: Option<bool>,
}

/// The file of a client cannot be used, because of another client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConflict {
    /// The client of the file.
    pub name: Arc<str>,
    /// The other client; the same name if the configuration defines a client of this name.
    pub with: Arc<str>,
    /// Where the other client is defined.
    pub place: String,
}

/// What became of changes of clients.
#[derive(Debug)]
pub struct ClientsChanged {
    /// The configuration with the changed clients.
    pub snapshot: Snapshot,
    /// Number of clients that came or changed.
    pub changed: usize,
    /// Number of clients that are gone.
    pub gone: usize,
    /// Clients that stay as they were, because they are in conflict with others.
    pub conflicts: Vec<ClientConflict>,
}

impl Snapshot {
    /// The same configuration with other clients, of those that have files. Everything else is shared, so this costs little, whatever the number of
    /// clients is. A client that is in conflict with another one stays as it was.
    pub fn with_clients(&self, changes: Vec<ClientChange>) -> ClientsChanged {
        let names: Vec<Arc<str>> = changes.iter().map(|change| change.name.clone()).collect();
        let mut done = ClientsChanged { snapshot: self.share(), changed: 0, gone: 0, conflicts: Vec::new() };
        let callers = &mut done.snapshot.callers;
        let mut coming = Vec::with_capacity(changes.len());
        // All changed clients are removed first, because a key may move from one to another.
        for ClientChange { name, client } in changes {
            let is_of_file = callers.known(&name).is_some_and(|known| known.own.is_some());
            let before = if is_of_file { callers.remove(&name) } else { None };
            match client {
                Some(client) => coming.push((self.groups.of_file(name, *client), before)),
                None => done.gone += usize::from(before.is_some()),
            }
        }
        let refused = done.add(coming);
        for known in refused {
            if conflict(&done.snapshot.callers, &known).is_none() {
                done.snapshot.callers.put(known);
            }
        }
        if let Some(limits) = self.limits.with_clients(&names, &done.snapshot.callers) {
            done.snapshot.limits = Arc::new(limits);
        }
        done
    }

    /// Where a client is defined.
    fn place_of(&self, name: &str) -> String {
        let is_of_file = self.callers.known(name).is_some_and(|known| known.own.is_some());
        match (&self.client_directory, self.client_lines.get(name)) {
            (Some(directory), _) if is_of_file => {
                directory.join(format!("{name}.toml")).display().to_string()
            }
            (_, Some(line)) => format!("gateway.toml, line {line}"),
            _ => "gateway.toml".to_owned(),
        }
    }
}

impl ClientsChanged {
    /// Adds clients, each beside what it was before, and returns what those were that are in conflict with others.
    fn add(&mut self, coming: Vec<(KnownCaller, Option<KnownCaller>)>) -> Vec<KnownCaller> {
        let mut refused = Vec::new();
        let mut terms: Option<Arc<OwnTerms>> = None;
        for (mut known, before) in coming {
            if let Some(with) = conflict(&self.snapshot.callers, &known) {
                let place = self.snapshot.place_of(&with);
                self.conflicts.push(ClientConflict { name: known.caller.name.clone(), with, place });
                refused.extend(before);
                continue;
            }
            match before {
                Some(before) if before == known => known = before,
                Some(before) => {
                    self.changed += 1;
                    if before.caller == known.caller {
                        known.caller = before.caller;
                    }
                }
                None => self.changed += 1,
            }
            // Many clients have the same terms.
            match &terms {
                Some(same) if known.own.as_ref() == Some(same) => known.own = Some(same.clone()),
                _ => terms.clone_from(&known.own),
            }
            self.snapshot.callers.put(known);
        }
        refused
    }
}

/// Compiles the clients. An unchanged client is taken over from `previous`, so that state attached to its identity is kept; and so are the clients that
/// have files, if `keeps_files`, with what their groups say now.
pub(super) fn compile(
    written: BTreeMap<Arc<str>, config::Client>,
    groups: &CallerGroups,
    previous: Option<&Snapshot>,
    keeps_files: bool,
) -> Callers {
    let mut callers = Callers::default();
    for (name, client) in written {
        let known = groups.known(name, client);
        let same = previous.and_then(|previous| previous.callers.same(&known.caller));
        callers.put(KnownCaller { caller: same.unwrap_or(known.caller), keys: known.keys, own: None });
    }
    let kept = previous.filter(|_| keeps_files);
    for known in kept.into_iter().flat_map(|previous| previous.callers.all()) {
        if known.own.is_some() && conflict(&callers, known).is_none() {
            callers.put(groups.regrouped(known));
        }
    }
    callers
}

impl CallerGroups {
    pub(super) fn of(groups: &BTreeMap<Arc<str>, config::Group>) -> Self {
        let compiled = |(name, group): (&Arc<str>, &config::Group)| {
            let rights = Arc::new(Rights { routes: group.routes.clone(), models: group.models.clone() });
            let cut = group.on_revoke.map(is_cut);
            let group = CallerGroup { name: name.clone(), rights, priority: group.priority, cut };
            (name.clone(), group)
        };
        Self(groups.iter().map(compiled).collect())
    }

    /// A client of a file.
    fn of_file(&self, name: Arc<str>, mut client: config::Client) -> KnownCaller {
        let limits = std::mem::take(&mut client.limits);
        let cut = client.on_revoke.map(is_cut);
        let own = OwnTerms { limits, priority: client.priority, cut };
        KnownCaller { own: Some(Arc::new(own)), ..self.known(name, client) }
    }

    /// A client of the configuration.
    fn known(&self, name: Arc<str>, client: config::Client) -> KnownCaller {
        let group = client.group.as_ref().and_then(|name| self.0.get(name));
        let cut = client.on_revoke.map(is_cut).or_else(|| group?.cut);
        let caller = Caller {
            name,
            rights: Rights { routes: client.routes, models: client.models },
            group_rights: group.map(|group| group.rights.clone()),
            expires: client.expires,
            tags: client.tags.into_iter().map(|tag| (tag.name, tag.value)).collect(),
            priority: client.priority.or_else(|| group?.priority).unwrap_or_default(),
            cut_when_withdrawn: cut.unwrap_or_default(),
            group: group.map(|group| group.name.clone()).or(client.group),
        };
        let keys = client.keys.iter().map(|key| *key.as_bytes()).collect();
        KnownCaller { caller: Arc::new(caller), keys, own: None }
    }

    /// A client of a file, with what its group says now. A group that is not there any more goes on for the clients that it had, until their files
    /// have changed: what it did not allow stays forbidden.
    fn regrouped(&self, known: &KnownCaller) -> KnownCaller {
        let KnownCaller { caller, keys, own } = known;
        let (Some(name), Some(own)) = (&caller.group, own) else { return known.clone() };
        let Some(group) = self.0.get(name) else { return known.clone() };
        let now = Caller {
            group_rights: Some(group.rights.clone()),
            priority: own.priority.or(group.priority).unwrap_or_default(),
            cut_when_withdrawn: own.cut.or(group.cut).unwrap_or_default(),
            ..Caller::clone(caller)
        };
        let caller = if now == **caller { caller.clone() } else { Arc::new(now) };
        KnownCaller { caller, keys: keys.clone(), own: Some(own.clone()) }
    }
}

fn is_cut(on_revoke: OnRevoke) -> bool {
    on_revoke == OnRevoke::Cut
}

/// The client with which another one cannot be: of the same name, or with one of its keys.
fn conflict(callers: &Callers, known: &KnownCaller) -> Option<Arc<str>> {
    let of_name = callers.by_name(&known.caller.name);
    let of_key = || known.keys.iter().find_map(|key| callers.by_key(key));
    of_name.or_else(of_key).map(|other| other.name.clone())
}
