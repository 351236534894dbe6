//! The few members of response bodies that are rewritten, because the client could not use them, or must not have them, as the upstream sends
//! them. `SECURITY.md` lists them.

use http::{HeaderMap, header, request, uri::Authority};

use super::context::RequestContext;
use crate::openai::{Endpoint, batches_base, issues_ephemeral_keys};

/// What is rewritten in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// Ephemeral secrets of the upstream become keys of the gateway's own. A body that cannot be searched for them does not pass.
    EphemeralSecrets,
    /// The URLs of batches' results lead back to this gateway. A body that cannot be searched for them passes as it is.
    ResultsUrls {
        /// What they begin with, up to `…/messages/batches`.
        base: String,
    },
}

/// The paths of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paths<'p> {
    /// As the client has it.
    pub(super) path: &'p str,
    /// As it goes upstream; it decides which operation it is.
    pub(super) upstream_path: &'p str,
}

impl Rewrite {
    /// What is rewritten in the response to a request with this head to `endpoint`.
    pub(super) fn of(
        context: &RequestContext,
        head: &request::Parts,
        endpoint: Endpoint,
        paths: Paths<'_>,
    ) -> Option<Box<Self>> {
        // Nearly all requests end here.
        if endpoint != Endpoint::Other {
            return None;
        }
        Self::of_path(context, head, paths).map(Box::new)
    }

    fn of_path(context: &RequestContext, head: &request::Parts, paths: Paths<'_>) -> Option<Self> {
        if issues_ephemeral_keys(&head.method, paths.upstream_path) {
            return Some(Self::EphemeralSecrets);
        }
        batches_base(&head.method, paths.upstream_path)?;
        let base = batches_base(&head.method, paths.path)?;
        Some(Self::ResultsUrls { base: [&public_url(context, head), base].concat() })
    }
}

/// Scheme and authority by which the client reaches the gateway: those of the configuration, else the host that the request names and the
/// scheme of its connection. A proxy whose word about the client's address is taken may name both (`x-forwarded-proto`, `x-forwarded-host`).
/// Empty if the request names no host: a URL without one leads to where the request went.
fn public_url(context: &RequestContext, head: &request::Parts) -> String {
    if let Some(configured) = &context.snapshot.server.public_url {
        return configured.to_string();
    }
    let headers = &head.headers;
    let forwarded = context.downstream.is_trusted_proxy();
    let forwarded = |name| if forwarded { only(headers, name) } else { None };
    let own = || head.uri.authority().map(Authority::as_str).or_else(|| only(headers, header::HOST.as_str()));
    let Some(host) = forwarded("x-forwarded-host").or_else(own) else { return String::new() };
    let is_tls = match forwarded("x-forwarded-proto") {
        Some(scheme) => scheme.eq_ignore_ascii_case("https"),
        None => context.downstream.tls,
    };
    [if is_tls { "https://" } else { "http://" }, host].concat()
}

/// The value of a header that occurs once and is not empty.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    (values.next().is_none() && !value.is_empty()).then_some(value)
}
