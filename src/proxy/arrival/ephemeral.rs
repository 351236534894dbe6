//! Ephemeral keys of requests: what a client has got from this gateway for a browser.

use std::{rc::Rc, sync::Arc};

use http::{HeaderValue, request};

use super::route::RoutedRequest;
use crate::{
    access::{Caller, Credential, Credentials, EphemeralGrant, Seal, SealError},
    fault::{Fault, Reason},
    openai::takes_ephemeral_keys,
    policy::SecretScanner,
    proxy::context::RequestContext,
    snapshot::{Route, Snapshot},
    upstream::Account,
};

/// What an ephemeral key opens: a secret of one upstream, which alone gets it.
#[derive(Debug)]
pub(in crate::proxy) struct EphemeralAccess {
    /// The upstream that has issued the secret.
    pub(in crate::proxy) upstream: Arc<str>,
    /// The secret, as a value of `authorization`.
    pub(in crate::proxy) authorization: HeaderValue,
    /// The account that knows what is made with it.
    pub(in crate::proxy) account: Account,
    /// Finds the secret, and the keys of all upstreams.
    pub(in crate::proxy) secrets: Arc<SecretScanner<'static>>,
}

/// An ephemeral key that may be used for the request.
pub(super) struct EphemeralClient {
    /// The client for which it was issued; `None` on an open route.
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) access: Rc<EphemeralAccess>,
}

/// The client of a request without the key of a known one, if it has an ephemeral key. Where there are several, the first counts.
///
/// # Errors
/// The ephemeral key is not valid, not any more, or not for this request.
pub(super) fn of(
    context: &RequestContext,
    head: &request::Parts,
    routed: &RoutedRequest,
    credentials: &Credentials,
) -> Result<Option<EphemeralClient>, Fault> {
    let Some(opened) = opened(context, credentials) else { return Ok(None) };
    let grant = opened.map_err(|error| match error {
        SealError::Foreign => Fault::EphemeralKeyInvalid(Reason::EphemeralForeign),
        SealError::Altered => Fault::EphemeralKeyInvalid(Reason::EphemeralAltered),
        SealError::Expired => Fault::EphemeralKeyExpired,
    })?;
    let caller = caller_of(&grant, &context.snapshot, &routed.route)?;
    if !takes_ephemeral_keys(&head.method, &routed.upstream_path) {
        return Err(Fault::EphemeralKeyMisused);
    }
    let access = EphemeralAccess::of(&grant, &context.snapshot, &routed.route)?;
    Ok(Some(EphemeralClient { caller, access: Rc::new(access) }))
}

/// Checks that the ephemeral key beside the key of `caller`, if there is one that is valid, was issued for the same client.
///
/// # Errors
/// The keys of two clients.
pub(super) fn agrees(
    context: &RequestContext,
    credentials: &Credentials,
    caller: &Caller,
) -> Result<(), Fault> {
    let opened = opened(context, credentials).and_then(Result::ok);
    let is_others = opened.is_some_and(|grant| grant.client.as_deref() != Some(&*caller.name));
    if is_others { Err(Fault::KeysConflict(Reason::CredentialsDiffer)) } else { Ok(()) }
}

/// The first ephemeral key in the headers.
fn opened(context: &RequestContext, credentials: &Credentials) -> Option<Result<EphemeralGrant, SealError>> {
    let now = Seal::now();
    let seal = &context.snapshot.seal;
    let mut in_headers = credentials.iter().filter(|credential| !credential.in_query());
    in_headers.find_map(|key: &Credential| seal.open(key.bytes(), now))
}

/// The client of `grant`, if it still exists and may use both the route of the grant and this one.
fn caller_of(
    grant: &EphemeralGrant,
    snapshot: &Snapshot,
    route: &Route,
) -> Result<Option<Arc<Caller>>, Fault> {
    let Some(name) = &grant.client else {
        let withdrawn = Fault::EphemeralKeyInvalid(Reason::EphemeralNoClient);
        return if route.open { Ok(None) } else { Err(withdrawn) };
    };
    let caller = snapshot.callers.by_name(name);
    let caller = caller.ok_or(Fault::EphemeralKeyInvalid(Reason::EphemeralClientGone))?;
    if caller.is_expired() {
        return Err(Fault::KeyExpired);
    }
    if !caller.may_use_route(&grant.route) || !caller.may_use_route(&route.name) {
        return Err(Fault::EphemeralKeyInvalid(Reason::EphemeralRoute));
    }
    Ok(Some(caller.clone()))
}

impl EphemeralAccess {
    fn of(grant: &EphemeralGrant, snapshot: &Snapshot, route: &Route) -> Result<Self, Fault> {
        let mut upstreams = route.steps.iter().map(|step| &step.upstream.name);
        let upstream = upstreams
            .find(|name| ***name == *grant.upstream)
            .ok_or(Fault::EphemeralKeyInvalid(Reason::EphemeralUpstream))?;
        let mut authorization = HeaderValue::try_from(["Bearer ", &grant.secret].concat())
            .map_err(|error| Fault::Internal(error.into()))?;
        authorization.set_sensitive(true);
        let secrets = snapshot.upstream_keys.with([grant.secret.as_bytes()]).into_owned();
        let account = Account::new(grant.account.as_str().into());
        Ok(Self { upstream: upstream.clone(), authorization, account, secrets: Arc::new(secrets) })
    }
}
