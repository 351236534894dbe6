//! Who sends a request, and whether they may use its route.

use std::{rc::Rc, sync::Arc};

use http::request;

use super::route::RoutedRequest;
use crate::{
    access::{self, Caller, Credential, Refused},
    exchange::Record,
    fault::Fault,
    policy::SecretScanner,
    proxy::context::RequestContext,
    snapshot::Route,
};

/// Finds out who sends the request and whether they may use its route. Gives a scanner for their key. `presented` searches for everything
/// that the request presents as a key.
///
/// # Errors
/// No key, an unknown key, two keys, or a key that may not use the route.
pub(in crate::proxy) fn authenticate(
    context: &RequestContext,
    record: &mut Record,
    head: &request::Parts,
    routed: &RoutedRequest,
    presented: Rc<SecretScanner<'static>>,
) -> Result<Rc<SecretScanner<'static>>, Fault> {
    let credential = access::credentials(&head.headers, head.uri.query()).map_err(refused)?;
    let bytes = credential.as_ref().map(Credential::bytes);
    // Nearly all requests present one key and nothing else, so the scanner is there already.
    let key = if bytes.is_some_and(|key| presented.is_for(key)) {
        presented
    } else {
        Rc::new(SecretScanner::new(bytes).into_owned())
    };
    refuse_key_in_request_line(head, &routed.path, &key)?;
    let memo = &context.downstream.memo;
    let known = credential.as_ref().and_then(|credential| memo.caller(credential, &key, &context.snapshot));
    record.caller.clone_from(&known);
    authorize(known.as_deref(), credential.as_ref(), &routed.route)?;
    Ok(key)
}

/// Whether `caller`, who presented `credential`, may use `route`.
fn authorize(
    caller: Option<&Caller>,
    credential: Option<&Credential>,
    route: &Arc<Route>,
) -> Result<(), Fault> {
    if let Some(caller) = caller {
        return if caller.may_use_route(&route.name) { Ok(()) } else { Err(Fault::RouteForbidden) };
    }
    if route.open {
        return Ok(());
    }
    match credential {
        Some(presented) if !presented.in_query() => Err(Fault::KeyUnknown),
        _ => Err(Fault::KeyMissing),
    }
}

/// Path and method are logged and go upstream, so no key may stand in them. The canonical path may show one that dot segments hid.
fn refuse_key_in_request_line(
    head: &request::Parts,
    path: &str,
    key: &SecretScanner<'_>,
) -> Result<(), Fault> {
    let line = [head.uri.path(), path, head.method.as_str()];
    if line.iter().any(|text| key.found_in(text.as_bytes())) {
        return Err(Fault::BadRequest(
            "its path or method holds the key; send that in the Authorization header alone",
        ));
    }
    Ok(())
}

fn refused(refused: Refused) -> Fault {
    match refused {
        Refused::Different | Refused::Repeated => Fault::KeysConflict(refused.into()),
        Refused::Authorization | Refused::Key(_) => Fault::KeyMalformed(refused.into()),
    }
}
