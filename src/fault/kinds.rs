//! What can go wrong, in the words that the caller reads.

use std::{error::Error, time::Duration};

use thiserror::Error;

use crate::openai::FactsError;

/// What lies beneath a fault; goes into the log, never to the caller, since it may name hosts and addresses.
pub type Cause = Box<dyn Error + Send + Sync>;

/// What a caller is told to wait, in whole seconds: not more, since some SDKs sleep for as long as they are told (openai-node).
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// `span` as the seconds of a `retry-after`.
pub(super) fn retry_seconds(span: Duration) -> u64 {
    span.min(LONGEST_WAIT).as_secs_f64().ceil().max(1.0) as u64
}

/// A failure that the caller can see. `Display` is the message for the caller: what happened, and what to do about it.
#[derive(Debug, Error)]
pub enum Fault {
    /// No route's path, host and method fit.
    #[error("No route for {method} {path} on this gateway. Check the base URL and the path of the request.")]
    NoRoute {
        /// The request's method.
        method: String,
        /// Its canonical path.
        path: String,
    },
    /// A route's path fits, its methods do not.
    #[error("{method} is not allowed here; allowed: {allowed}.")]
    MethodNotAllowed {
        /// The request's method.
        method: String,
        /// The `Allow` header's value.
        allowed: String,
    },
    /// A request that a gateway like this has no use for: CONNECT, TRACE, `OPTIONS *`.
    #[error("{0} is not supported by this gateway.")]
    MethodUnsupported(&'static str),
    /// A protocol upgrade, WebSocket included.
    #[error("Protocol upgrades (WebSocket) are not supported by this gateway.")]
    UpgradeUnsupported,
    /// The path has no one meaning, or an unwanted one.
    #[error("The request's path is refused: {0}.")]
    BadPath(#[source] Cause),
    /// The request contradicts itself or the protocol in another way.
    #[error("The request is refused: {0}.")]
    BadRequest(&'static str),
    /// More header lines than are taken.
    #[error("The request has more than {0} header fields.")]
    TooManyHeaders(usize),
    /// No key was presented.
    #[error(
        "You didn't provide an API key. Send your gateway key in an Authorization header: \
         `Authorization: Bearer YOUR_KEY`."
    )]
    KeyMissing,
    /// The key presented is nobody's.
    #[error("Incorrect API key provided. This gateway has its own keys; ask its operator for one.")]
    KeyUnknown,
    /// What was presented cannot be a key.
    #[error("The request's credentials cannot be used: {0}. Send `Authorization: Bearer YOUR_KEY`.")]
    KeyMalformed(#[source] Cause),
    /// Several credentials that differ.
    #[error("The request's credentials are refused: {0}. Send one key, in one header.")]
    KeysConflict(#[source] Cause),
    /// This caller may not use this route.
    #[error("Your key may not use this route.")]
    RouteForbidden,
    /// This caller may not use this model.
    #[error("Your key may not use the model `{0}`.")]
    ModelForbidden(String),
    /// The caller is limited to some models, and the request does not say which one it wants where the gateway can read it.
    #[error("Your key is limited to some models, and this request does not name its model in a JSON body.")]
    ModelUnknown,
    /// A JSON body above the limit.
    #[error("The request's body is larger than {limit} bytes, the limit on this route.")]
    BodyTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// A JSON body that is none, or is ambiguous.
    #[error("The request's body cannot be used: {0}.")]
    BodyInvalid(#[source] FactsError),
    /// The request's body stopped coming.
    #[error("The request's body stopped arriving: nothing came for {} s.", .0.as_secs())]
    BodyStalled(Duration),
    /// The request's body broke off or broke the protocol.
    #[error("The request's body could not be read to its end.")]
    BodyBroken(#[source] Cause),
    /// The process-wide bound on buffered bodies is reached.
    #[error("The gateway is holding as many request bodies as it may. Try again in a moment.")]
    Overloaded,
    /// No socket to an upstream can be opened: the process, or the machine, has no descriptors left.
    #[error("The gateway cannot open another connection. Try again in a moment.")]
    NoDescriptors(#[source] Cause),
    /// The gateway is going down.
    #[error("The gateway is shutting down. Try again.")]
    Draining,
    /// The exchange took longer than `timeout.total`.
    #[error("The request took longer than {} s, which was its limit.", .0.as_secs_f64())]
    TotalTimeout(Duration),
    /// No connection to the upstream could be made.
    #[error("The upstream cannot be reached.")]
    Connect(#[source] Cause),
    /// No connection to the upstream was made in time.
    #[error("The upstream could not be reached within {} s.", .0.as_secs_f64())]
    ConnectTimeout(Duration),
    /// The upstream's response head did not come in time.
    #[error("The upstream did not answer within {} s.", .0.as_secs_f64())]
    FirstByteTimeout(Duration),
    /// The upstream's answer began, and its first content did not come in time.
    #[error("The upstream's answer had no content within {} s.", .0.as_secs_f64())]
    FirstTokenTimeout(Duration),
    /// Nothing that could answer may be asked now: every circuit is open, every key rests.
    #[error("No upstream is available now. Try again in {} s.", retry_seconds(*.0))]
    Unavailable(Duration),
    /// Every target that could answer has as many requests or connections as it may (`max_pending`, `max_connections`). Until one may have less.
    #[error("Every upstream has as many requests as it may have. Try again in {} s.", retry_seconds(*.0))]
    Full(Duration),
    /// Every key rests, because the upstream said that its rate limit is reached.
    #[error("The upstream's rate limit is reached. Try again in {} s.", retry_seconds(*.0))]
    RateLimited(Duration),
    /// The connection to the upstream ended, or broke the protocol, before a response head.
    #[error("The upstream closed the connection without an answer.")]
    NoAnswer(#[source] Cause),
    /// The upstream answered with something that a caller cannot be given.
    #[error("The upstream's answer is not usable: {0}.")]
    BadAnswer(&'static str),
    /// The upstream refused the gateway's own key. Its body may echo the key and is withheld.
    #[error(
        "The upstream refused the gateway's own credentials ({0}). This is for the gateway's operator to mend."
    )]
    UpstreamAuth(#[source] Cause),
    /// The upstream's error answer held the gateway's key, or could not be checked for it.
    #[error(
        "The upstream answered with status {0}; its message is withheld, because it could expose a credential."
    )]
    Withheld(u16),
    /// An answer that was to be held whole is larger than that may be.
    #[error("The upstream's answer is larger than {limit} bytes, the limit on this route.")]
    AnswerTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// The upstream broke off within its answer.
    #[error("The upstream broke off its answer; what came before is incomplete.")]
    Truncated(#[source] Cause),
    /// The upstream fell silent within its answer.
    #[error("The upstream sent nothing for {} s; the answer is incomplete.", .0.as_secs_f64())]
    Idle(Duration),
    /// The caller took nothing of what waited for it, for too long.
    #[error("The answer was not read.")]
    CallerStalled,
    /// The drain's deadline cut the answer.
    #[error("The gateway is shutting down; the answer is incomplete.")]
    CutByDrain,
    /// A bug in the gateway.
    #[error("The gateway failed to handle the request.")]
    Internal(#[source] Cause),
}
