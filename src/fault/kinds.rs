//! What can go wrong.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use super::{Language, Reason};
use crate::openai::{CheckError, EditError, FactsError, Invalid};

/// What caused a fault. It is written to the log and never sent to the client, because it may name hosts and addresses.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The longest `retry-after` that is sent: openai-node sleeps for as long as it says, and the AI SDK heeds only what is shorter than a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(59);

/// `span` as the seconds of a `retry-after`.
pub fn retry_seconds(span: Duration) -> u64 {
    span.min(LONGEST_WAIT).as_secs_f64().ceil().max(1.0) as u64
}

/// The wait after which a request that found too many others in flight may be sent again: nobody knows when one of them ends.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);

/// A limit of the configuration that refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReached {
    /// Its configured name.
    pub limit: Arc<str>,
    /// Exactly the time until the request may be admitted, if nobody else is; `None`: nobody knows.
    pub wait: Option<Duration>,
}

impl LimitReached {
    /// The time after which the request may be sent again.
    pub fn retry_after(&self) -> Duration {
        self.wait.unwrap_or(WAIT_FOR_OTHERS)
    }

    /// The same in whole seconds, rounded up.
    pub fn retry_seconds(&self) -> u64 {
        self.retry_after().as_secs_f64().ceil().max(1.0) as u64
    }

    /// Whether an SDK should wait that long and try again by itself.
    pub fn is_short(&self) -> bool {
        self.retry_after() <= LONGEST_WAIT
    }
}

/// A failure that the client can see: a code with its arguments. The text for the client is [`Fault::message`], in English also `Display`.
#[derive(Debug)]
pub enum Fault {
    /// No route matches the path, host and method.
    NoRoute {
        /// The request's method.
        method: String,
        /// Its canonical path.
        path: String,
        /// What is probably wrong with the request.
        mistake: Box<Mistake>,
    },
    /// A route matches the path, but not the method.
    MethodNotAllowed {
        /// The request's method.
        method: String,
        /// The `Allow` header's value.
        allowed: String,
    },
    /// CONNECT, TRACE or `OPTIONS *`.
    MethodUnsupported(&'static str),
    /// A protocol upgrade to something else than WebSocket.
    UpgradeUnsupported,
    /// A WebSocket handshake, where WebSocket is not available. Clients that can do without it go on with plain HTTP at once when they get a
    /// 426 (openai/codex `codex-api`, `responses_websocket.rs`).
    WebSocketUnavailable,
    /// The path is ambiguous, or leaves the root.
    BadPath(Reason),
    /// The request contradicts itself or violates the protocol in another way.
    BadRequest(Reason),
    /// The request has more header lines than `server.max_headers`.
    TooManyHeaders(usize),
    /// The request came as plain HTTP on a port that serves HTTPS only.
    TlsRequired,
    /// No key was presented.
    KeyMissing,
    /// No client has the key that the request presents.
    KeyUnknown,
    /// No client has the key that the request presents, and its form is that of this provider's keys.
    KeyOfProvider(&'static str),
    /// The ephemeral key of the request is none of this gateway's, or is not valid any more.
    EphemeralKeyInvalid(Reason),
    /// The time of the request's ephemeral key is over.
    EphemeralKeyExpired,
    /// The request's ephemeral key is not for this operation.
    EphemeralKeyMisused,
    /// The credentials in the request have a form that no key has.
    KeyMalformed(Reason),
    /// The request has several credentials that differ.
    KeysConflict(Reason),
    /// The client's `routes` do not list this route.
    RouteForbidden,
    /// The request has an `Origin`, which only browsers send, and the route takes none.
    OriginRefused,
    /// The request comes from a web page, and `cors` of the route does not list its origin.
    OriginUnlisted(Cause),
    /// The client's `models` do not list this model.
    ModelForbidden(String),
    /// The route serves the models of `[model.NAME]` tables only, and none fits.
    ModelNotFound {
        /// The model that the request names.
        model: String,
        /// Names like it that the client may use.
        names: Vec<String>,
    },
    /// The account that requests of the client belong to does not know an id of the request, which is not looked for elsewhere because it
    /// changes something.
    IdUnknown,
    /// An id belongs to an account to which the route does not lead any more.
    IdOwnerGone,
    /// The ids of the request belong to different accounts, so no account can serve it.
    IdOwnersDiffer,
    /// The account that the request belongs to cannot be asked now. The time until it may be.
    IdOwnerUnavailable(Duration),
    /// The client is limited to some models, and the gateway cannot read which model the request is for.
    ModelUnknown,
    /// A JSON body is larger than the route's `body_limit`.
    BodyTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// A body that should be JSON is not, or is ambiguous.
    BodyInvalid(FactsError),
    /// The body breaks a rule of its operation, on a route that checks requests.
    RequestInvalid(Box<Invalid>),
    /// The body has no place for a member that the route sets in it.
    BodyNotEditable(EditError),
    /// No data of the request body arrived for `server.body_idle`.
    BodyStalled(Duration),
    /// The request body ended early or violated the protocol.
    BodyBroken(Cause),
    /// `server.max_buffered` is reached, the bound on all request bodies in memory.
    Overloaded,
    /// `server.max_requests` is reached, or the part of it that requests of this priority may fill.
    TooManyInFlight,
    /// `server.max_spooled` is reached, the bound on all request bodies in files.
    SpoolFull,
    /// A request body that has to be read before it is sent, and is too large for memory, could not be kept in a file.
    SpoolFailed(Cause),
    /// No socket to an upstream can be opened, because the process or the machine has no file descriptors left.
    NoDescriptors(Cause),
    /// The gateway is shutting down.
    Draining,
    /// The exchange took longer than `timeout.total`.
    TotalTimeout(Duration),
    /// No connection to the upstream could be made.
    Connect(Cause),
    /// No connection to the upstream was made within `timeout.connect`.
    ConnectTimeout(Duration),
    /// The upstream's response head did not arrive within `timeout.first_byte`.
    FirstByteTimeout(Duration),
    /// The upstream's response began, but its first content did not arrive within `timeout.first_token`.
    FirstTokenTimeout(Duration),
    /// No candidate is available: every circuit breaker is open, or every key is in cooldown. The time until one may be.
    Unavailable(Duration),
    /// Every candidate is at its concurrency limit (`max_pending`, `max_connections`). The time until one may not be.
    Full(Duration),
    /// Every key is in cooldown, because the upstream said that its rate limit is reached. The time until one is not.
    RateLimited(Duration),
    /// A limit of the gateway on requests or tokens per time is reached.
    RateLimit(LimitReached),
    /// A limit of the gateway on requests at once is reached.
    ConcurrencyLimit(LimitReached),
    /// A limit of the gateway on money is reached.
    CostLimit(LimitReached),
    /// The request has waited for a limit of the gateway for as long as it may.
    QueueTimeout {
        /// The limit.
        reached: LimitReached,
        /// How long the request has waited.
        waited: Duration,
    },
    /// The connection to the upstream ended, or violated the protocol, before a response head.
    NoAnswer(Cause),
    /// The upstream's response cannot be passed on.
    BadAnswer(Reason),
    /// The head of the upstream's response cannot be passed on, and would be the same the next time.
    UnusableHead(Reason),
    /// The head of the upstream's response cannot be read: it violates HTTP, or is larger than the gateway allows.
    Unreadable(Cause),
    /// The upstream refused the gateway's own key, or the account of the key has no credit. Clients are not told which.
    KeyUnusable(Cause),
    /// The upstream's error response, which had this status, contains the gateway's key or could not be searched for it.
    Withheld(u16),
    /// A response that had to be held whole is larger than the route's `body_limit`.
    AnswerTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// The upstream's response ended early.
    Truncated(Cause),
    /// The upstream sent nothing for too long within its response.
    Idle(Duration),
    /// Nothing passed on a WebSocket connection for too long.
    TunnelIdle(Duration),
    /// The client read nothing of the response for too long.
    CallerStalled,
    /// The drain's deadline ended the response.
    CutByDrain,
    /// The client's keys have expired.
    KeyExpired,
    /// The client's key, or its permission for the route or the model, was withdrawn while the response was under way.
    KeyRevoked,
    /// The operator has cancelled the request.
    CutByOperator,
    /// A bug in the gateway.
    Internal(Cause),
}

/// What is probably wrong with a request that no route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// Nothing that is known.
    Unknown,
    /// The base URL of the client.
    BaseUrl {
        /// The path of a base URL that reaches a route; empty for one without a path.
        base: String,
        /// The path that the request then has.
        path: String,
    },
    /// It is a health probe or a scrape, which the admin listener would answer.
    Probe,
}

impl Mistake {
    /// The path of a base URL that reaches a route, if the base URL is the mistake.
    pub(super) fn base(&self) -> Option<&str> {
        match self {
            Self::BaseUrl { base, .. } => Some(base),
            Self::Unknown | Self::Probe => None,
        }
    }

    /// The path of the request with that base URL, if the base URL is the mistake.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::BaseUrl { path, .. } => path,
            Self::Unknown | Self::Probe => "",
        }
    }

    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Probe)
    }
}

impl Fault {
    /// The route has no table for `model`; `names` are like it.
    pub fn model_not_found(model: &str, names: &[String]) -> Self {
        Self::ModelNotFound { model: model.to_owned(), names: names.to_vec() }
    }

    /// Whether something took too long.
    pub fn is_slowness(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout(_) | Self::FirstByteTimeout(_) | Self::FirstTokenTimeout(_) | Self::Idle(_)
        )
    }
}

impl Fault {
    /// The parameter of the request that is at fault: a member of its body.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::ModelForbidden(_) | Self::ModelNotFound { .. } | Self::ModelUnknown => Some("model"),
            Self::BodyInvalid(error) => error.param(),
            Self::RequestInvalid(invalid) => invalid.param(),
            Self::BodyNotEditable(EditError::NotAnObject { member }) => Some(member),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(Language::EN))
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BodyInvalid(error) => Some(error),
            Self::RequestInvalid(invalid) => Some(invalid),
            Self::BodyNotEditable(error) => Some(error),
            Self::BadPath(reason) | Self::KeyMalformed(reason) | Self::KeysConflict(reason) => Some(reason),
            Self::OriginUnlisted(cause)
            | Self::BodyBroken(cause)
            | Self::NoDescriptors(cause)
            | Self::SpoolFailed(cause)
            | Self::Connect(cause)
            | Self::NoAnswer(cause)
            | Self::Unreadable(cause)
            | Self::KeyUnusable(cause)
            | Self::Truncated(cause)
            | Self::Internal(cause) => Some(&**cause),
            _ => None,
        }
    }
}

impl From<CheckError> for Fault {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Unreadable(error) => Self::BodyInvalid(error),
            CheckError::Invalid(invalid) => Self::RequestInvalid(invalid),
        }
    }
}

/// Only a body's form is the client's doing; anything else is a bug of the gateway.
impl From<EditError> for Fault {
    fn from(error: EditError) -> Self {
        match error {
            EditError::NotAnObject { .. } => Self::BodyNotEditable(error),
            EditError::Overlap
            | EditError::OutOfBounds
            | EditError::NotAField { .. }
            | EditError::NotToBeSet { .. }
            | EditError::NotJson { .. } => Self::Internal(error.into()),
        }
    }
}
