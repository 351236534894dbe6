//! Identifies the client of a request, and checks whether it may use the route.

use std::{rc::Rc, sync::Arc};

use http::request;

use super::{
    ephemeral::{self, EphemeralAccess, EphemeralClient},
    route::RoutedRequest,
};
use crate::{
    access::{self, Caller, Credential, Credentials, KnownKey, Refused, provider_of_key},
    body::Grant,
    exchange::Exchange,
    fault::{Fault, Reason},
    policy::SecretScanner,
    proxy::context::{Presented, RequestContext},
    snapshot::Route,
};

/// Path and method are logged and go upstream, so no key may stand in them.
const KEY_IN_REQUEST_LINE: Fault = Fault::BadRequest(Reason::KeyInRequestLine);

/// How a client has proved who it is.
#[derive(Debug)]
pub(in crate::proxy) struct Authenticated {
    /// Finds everything that it presents as a key.
    pub(in crate::proxy) key: Rc<SecretScanner<'static>>,
    /// The client, if the request has one credential, which is that of a known client and stands in a header.
    pub(in crate::proxy) known: Option<KnownKey>,
    /// What its ephemeral key opens, if it has one.
    pub(in crate::proxy) ephemeral: Option<Rc<EphemeralAccess>>,
}

/// Identifies the client of the request and checks whether it may use the route.
///
/// # Errors
/// No key, an unknown key, an expired key, the keys of two clients, or a key that may not use the route.
pub(in crate::proxy) fn authenticate(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
    routed: &RoutedRequest,
    presented: Presented,
) -> Result<Authenticated, Fault> {
    let credentials = access::credentials(&head.headers, head.uri.query()).map_err(refused)?;
    let only = credentials.only();
    // Nearly all requests present one key and nothing else. Then its scanner is there already, and the request line has been searched.
    let is_single = only.is_some_and(|only| presented.scanner.is_for(only.bytes()));
    let (key, in_request_line) = if is_single {
        (presented.scanner, presented.in_request_line)
    } else {
        let keys = credentials.iter().map(Credential::bytes);
        let key = Rc::new(SecretScanner::new(keys).into_owned());
        let in_request_line =
            key.found_in(head.uri.path().as_bytes()) || key.found_in(head.method.as_str().as_bytes());
        (key, in_request_line)
    };
    // The canonical path may show a key that dot segments hid.
    let is_canonical = *routed.path == *head.uri.path();
    if in_request_line || (!is_canonical && key.found_in(routed.path.as_bytes())) {
        return Err(KEY_IN_REQUEST_LINE);
    }
    let known = match only {
        Some(only) => context.downstream.memo.caller(only, &key, &context.snapshot),
        None => context.snapshot.callers.find_one(&credentials).map_err(refused)?,
    };
    if known.is_none()
        && let Some(client) = ephemeral::of(context, head, routed, &credentials)?
    {
        let EphemeralClient { caller, access } = client;
        if let Some(caller) = &caller {
            exchange.handle.status.granted(Grant { key: None, cut: caller.cut_when_withdrawn });
        }
        exchange.record.caller = caller;
        exchange.secrets = Some(access.secrets.clone());
        return Ok(Authenticated { key, known: None, ephemeral: Some(access) });
    }
    if let Some(known) = &known {
        admit_key(exchange, known);
    }
    let caller = known.as_ref().map(|known| known.caller.clone());
    if let (Some(caller), None) = (&caller, only) {
        ephemeral::agrees(context, &credentials, caller)?;
    }
    exchange.record.caller.clone_from(&caller);
    authorize(caller.as_deref(), &credentials, &routed.route)?;
    let known = known.filter(|_| only.is_some_and(|only| !only.in_query()));
    Ok(Authenticated { key, known, ephemeral: None })
}

/// Notes by which key the exchange was admitted, so that it can be cut when the key is withdrawn.
pub(super) fn admit_key(exchange: &Exchange, known: &KnownKey) {
    let grant = Grant { key: Some(known.key), cut: known.caller.cut_when_withdrawn };
    exchange.handle.status.granted(grant);
}

/// Checks whether `caller`, the client that presented `credentials`, may use `route`.
fn authorize(caller: Option<&Caller>, credentials: &Credentials, route: &Arc<Route>) -> Result<(), Fault> {
    if let Some(caller) = caller {
        if caller.is_expired() {
            return Err(Fault::KeyExpired);
        }
        return if caller.may_use_route(&route.name) { Ok(()) } else { Err(Fault::RouteForbidden) };
    }
    if let Some(malformed) = credentials.malformed() {
        return Err(refused(malformed));
    }
    if route.open {
        return Ok(());
    }
    let Some(unknown) = credentials.iter().find(|credential| !credential.in_query()) else {
        return Err(Fault::KeyMissing);
    };
    Err(provider_of_key(unknown.bytes()).map_or(Fault::KeyUnknown, Fault::KeyOfProvider))
}

fn refused(refused: Refused) -> Fault {
    match refused {
        Refused::Different | Refused::Repeated | Refused::TooMany => Fault::KeysConflict(refused.into()),
        Refused::Authorization | Refused::Key(_) => Fault::KeyMalformed(refused.into()),
    }
}
