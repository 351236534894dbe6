//! Decides which accounts a request may be sent to.
//!
//! The rule needs no memory: each client has one account in each route, by rendezvous hash over the accounts of the route's first upstream. What
//! departed from it is in the [`AccountMap`]. A request that depends on nothing that is kept has no choice of accounts, nor has any request of a route with one account.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::PreparedRequest;
use crate::{
    accounts::{AccountMap, ClientDigests, IdDigest},
    exchange::Record,
    fault::Fault,
    openai::{FoundId, IdScanner, Kept, Need, Repeat},
    proxy::account_choice::{AccountChoice, Learning, Search},
    upstream::Account,
};

/// The most ids of a body that are looked up: the first ones.
const MOST_IDS: usize = 256;

/// From this size on, in bytes, a body is searched on a thread for blocking work.
const LARGE: usize = 1 << 20;

/// What a request names of what is kept.
#[derive(Debug, Default)]
struct Named {
    path: Vec<IdDigest>,
    body: Vec<IdDigest>,
    /// The body names something on purpose.
    is_named_in_body: bool,
}

/// Decides which accounts the request may be sent to. `text` is its body, if that was read.
///
/// # Errors
/// No account knows all of its ids.
pub(in crate::proxy) async fn choose(
    request: &mut PreparedRequest,
    record: &Record,
    map: &dyn AccountMap,
    text: Option<Bytes>,
) -> Result<(), Fault> {
    request.accounts = None;
    let route = &request.arrived.routed.route;
    let configured = request.configured_route.as_ref().unwrap_or(route);
    let path = &request.arrived.routed.upstream_path;
    let kept = Kept::of(&request.head.method, path, request.head.uri.query());
    if kept.need == Need::None {
        return Ok(());
    }
    let digests = ClientDigests::of(record.caller.as_ref().map(|caller| &*caller.name));
    let mut named = match text {
        Some(text) => in_body(text, digests.clone()).await?,
        None => Named::default(),
    };
    named.path = kept.ids.iter().map(|id| digests.digest(&decoded(id))).collect();
    let makes = match kept.need {
        Need::Makes => true,
        Need::MakesIfStored => request.stored,
        Need::None | Need::Account | Need::Body => false,
    };
    if !makes && kept.need != Need::Account && !named.is_named_in_body {
        return Ok(());
    }
    let client = record.caller.as_ref().map(|caller| &*caller.name);
    let Some(home) = configured.accounts_of(client).into_iter().next() else { return Ok(()) };
    let (order, search) = if let Some(access) = &request.arrived.ephemeral {
        (vec![access.account.clone()], Search::Known)
    } else if let Some(name) = owner(map, &named).await? {
        let known = route.account(&name).cloned();
        (vec![known.ok_or(Fault::IdOwnerGone)?], Search::Known)
    } else {
        let has_ids = !named.path.is_empty() || named.is_named_in_body;
        let search = match (has_ids, request.repeat) {
            (true, Repeat::Read) => Search::Look,
            (true, _) => Search::Stay,
            (false, _) if makes => Search::Create,
            (false, _) => Search::Known,
        };
        (by_rule(route.accounts_of(client), &home, search), search)
    };
    let learning = Learning { home, digests, path_ids: named.path };
    request.accounts = Some(Box::new(AccountChoice::new(order, search, learning)));
    Ok(())
}

/// The accounts that are asked, of `all` that the request may be sent to. The table of a model may have another order than the route, and that is
/// where things are made; what is there is where the route's rule says.
fn by_rule(mut all: Vec<Account>, home: &Account, search: Search) -> Vec<Account> {
    if search != Search::Create
        && let Some(at) = all.iter().position(|account| account == home)
    {
        all[..=at].rotate_right(1);
    }
    if matches!(search, Search::Stay | Search::Known) {
        all.truncate(1);
    }
    all
}

/// The account that knows the ids, if one is known to: the outermost id of the path decides, else all in the body must agree.
///
/// # Errors
/// Ids of the body belong to different accounts.
async fn owner(map: &dyn AccountMap, named: &Named) -> Result<Option<std::sync::Arc<str>>, Fault> {
    if map.is_empty() {
        return Ok(None);
    }
    let of_path = map.find(&named.path).await;
    if let Some(owner) = of_path.into_iter().flatten().next() {
        return Ok(Some(owner));
    }
    let mut owners = map.find(&named.body).await.into_iter().flatten();
    let Some(first) = owners.next() else { return Ok(None) };
    if owners.any(|other| other != first) {
        return Err(Fault::IdOwnersDiffer);
    }
    Ok(Some(first))
}

/// Searches a body for ids.
async fn in_body(text: Bytes, digests: ClientDigests) -> Result<Named, Fault> {
    if text.len() < LARGE {
        return Ok(search(&text, &digests));
    }
    let searching = tokio::task::spawn_blocking(move || search(&text, &digests));
    searching.await.map_err(|error| Fault::Internal(error.into()))
}

fn search(text: &[u8], digests: &ClientDigests) -> Named {
    let mut named = Named::default();
    let mut has_ids = false;
    let mut scanner = IdScanner::default();
    let mut note = |found: FoundId<'_>| {
        let id = match found {
            FoundId::Reference(id) | FoundId::Sealed(id) => {
                named.is_named_in_body = true;
                id
            }
            FoundId::Id(id) => {
                has_ids = true;
                id
            }
        };
        if named.body.len() < MOST_IDS {
            named.body.push(digests.digest(id));
        }
    };
    scanner.scan(text, &mut note);
    scanner.finish(&mut note);
    named.is_named_in_body |= has_ids && scanner.has_item_reference();
    named
}

/// An id of a path as the upstream reads it.
fn decoded(id: &str) -> Cow<'_, [u8]> {
    if id.contains('%') { percent_decode_str(id).collect::<Vec<u8>>().into() } else { id.as_bytes().into() }
}
