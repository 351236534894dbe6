//! Rewrites the few members of response bodies that [`Rewrite`] names. Every other byte stays as it is.

use http::{HeaderMap, HeaderName, header};
use zeroize::Zeroizing;

use crate::{
    access::{EphemeralGrant, Seal},
    exchange::Exchange,
    fault::{Fault, Reason},
    openai::{EphemeralSecret, Splices, ephemeral_secrets, results_urls},
    policy::SecretScanner,
    proxy::{
        context::RequestContext,
        delivery::{ClientResponse, HoldBounds},
        rewrite::Rewrite,
    },
};

/// The largest response that is searched, in bytes. A list of a thousand batches has about 700 KiB.
const LARGEST: u64 = 2 << 20;

/// How long an ephemeral key is valid if the upstream does not say it, in seconds.
const USUAL_LIFE: u64 = 600;

const NOT_READ: Fault = Fault::BadAnswer(Reason::AnswerSecretUnread);
const NO_SECRET: Fault = Fault::BadAnswer(Reason::AnswerSecretMissing);
const SECRET_ELSEWHERE: Fault = Fault::BadAnswer(Reason::AnswerSecretElsewhere);

/// Headers that describe the bytes of the body as they were.
static OF_THE_BYTES: [HeaderName; 5] = [
    header::ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Applies `rewrite` to `response`, which the last attempt of `exchange` has brought.
///
/// # Errors
/// The response ended early, or a secret of the upstream would pass.
pub(super) async fn apply(
    rewrite: &Rewrite,
    context: &RequestContext,
    exchange: &mut Exchange,
    mut response: ClientResponse,
) -> Result<ClientResponse, Fault> {
    if !response.status().is_success() {
        return Ok(response);
    }
    let is_coded =
        response.headers_mut().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    let bounds = HoldBounds {
        limit: if is_coded { 0 } else { LARGEST },
        buffered: context.snapshot.server.max_buffered,
        gateway: &context.worker.gateway,
        status: &exchange.handle.status,
    };
    match rewrite {
        Rewrite::EphemeralSecrets => {
            let document = response.read_document(&bounds).await?.ok_or(NOT_READ)?;
            let found = ephemeral_secrets(&document).filter(|found| !found.is_empty()).ok_or(NO_SECRET)?;
            let scanner = SecretScanner::new(found.iter().map(|secret| secret.value.as_bytes())).into_owned();
            let edited = sealed(context, exchange, &found)?.apply(&document)?;
            if scanner.found_in(&edited) {
                return Err(SECRET_ELSEWHERE);
            }
            remove_values(response.headers_mut(), &scanner);
            replace(&mut response, edited);
        }
        Rewrite::ResultsUrls { base } => {
            let is_whole = response.status() == http::StatusCode::OK;
            let Some(document) = response.read_document(&bounds).await?.filter(|_| is_whole) else {
                return Ok(response);
            };
            let found = results_urls(&document).unwrap_or_default();
            if found.is_empty() {
                return Ok(response);
            }
            let mut splices = Splices::new();
            for url in found {
                splices.replace(url.range, json_text(&[base, &url.rest])?)?;
            }
            let edited = splices.apply(&document)?;
            replace(&mut response, edited);
        }
    }
    Ok(response)
}

/// The edits that put a key of the gateway's own in the place of each secret.
fn sealed(
    context: &RequestContext,
    exchange: &Exchange,
    secrets: &[EphemeralSecret],
) -> Result<Splices, Fault> {
    let record = &exchange.record;
    let (upstream, account) = asked(context, exchange);
    let mut splices = Splices::new();
    for EphemeralSecret { range, value, expires_at } in secrets {
        let grant = EphemeralGrant {
            expires: expires_at.unwrap_or_else(|| Seal::now() + USUAL_LIFE),
            client: record.caller.as_ref().map(|caller| caller.name.to_string()),
            route: record.route.as_deref().unwrap_or_default().to_owned(),
            upstream: upstream.clone(),
            account: account.clone(),
            secret: Zeroizing::new(value.clone()),
        };
        let key = context.snapshot.seal.seal(&grant);
        let key = key.map_err(|error| Fault::Internal(error.to_string().into()))?;
        splices.replace(range.clone(), json_text(&[&key])?)?;
    }
    Ok(splices)
}

/// The upstream of the last attempt, and the account of its key.
fn asked(context: &RequestContext, exchange: &Exchange) -> (String, String) {
    let Some(attempt) = exchange.record.attempts.last() else { return Default::default() };
    let account = context.snapshot.upstreams.get(&attempt.upstream).and_then(|upstream| {
        let target = upstream.targets().find(|target| target.url == attempt.target)?;
        Some(upstream.account(target, attempt.key)?.name().to_string())
    });
    (attempt.upstream.to_string(), account.unwrap_or_default())
}

/// A JSON text of these parts.
fn json_text(parts: &[&str]) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(&parts.concat()).map_err(|error| Fault::Internal(error.into()))
}

fn replace(response: &mut ClientResponse, document: Vec<u8>) {
    for name in &OF_THE_BYTES {
        response.headers_mut().remove(name);
    }
    response.replace_document(document.into());
}

/// Removes the headers in which `secrets` finds something.
fn remove_values(headers: &mut HeaderMap, secrets: &SecretScanner<'_>) {
    let holds = headers.iter().filter(|(_, value)| secrets.found_in(value.as_bytes()));
    let names: Vec<HeaderName> = holds.map(|(name, _)| name.clone()).collect();
    for name in names {
        headers.remove(name);
    }
}
