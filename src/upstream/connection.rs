//! A connection for one request, and what becomes of the request.

use std::{
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use hyper::client::conn::{TrySendError, http2::SendRequest};
use thiserror::Error;

use super::{
    Answer, AnswerBody, Dialer,
    answer::Source,
    http1::{Http1, NoResponse},
    http2::{self, Lease},
    pool::Pools,
};
use crate::{body::Outbound, fault::Cause};

/// A connection that is closed so soon after a request was sent was being closed when the request was sent.
const CROSSING: Duration = Duration::from_secs(1);

/// A connection taken from the pool or newly made, for one request.
#[derive(Debug)]
pub struct Connection {
    pub(super) transport: Transport,
    pub(super) reused: bool,
    pub(super) pools: Rc<Pools>,
    pub(super) dialer: Arc<Dialer>,
}

/// What a request is sent with.
pub(super) enum Transport {
    Http1(Box<Http1>),
    Http2(SendRequest<Outbound>, Lease),
}

/// Why the upstream sent no response head.
#[derive(Debug, Error)]
#[error("no response from the upstream")]
pub struct SendError {
    /// The error of the connection.
    #[source]
    pub cause: Cause,
    /// What the upstream can have seen of the request.
    pub seen: Delivery,
}

/// What an upstream can have seen of a request without a response.
#[derive(Debug)]
pub enum Delivery {
    /// Nothing: the request was not written, or HTTP/2 says that it was not processed (RFC 9113 §8.7). Contains the request if
    /// it came back.
    Nothing(Option<Box<Request<Outbound>>>),
    /// Most likely nothing: a kept connection was closed without a byte of a response, so soon after the request was sent that
    /// the two must have crossed on the way. Any upstream may close an idle connection at any moment.
    Crossed,
    /// Perhaps all of it. The upstream may be working on it, so only a request that may be repeated may be sent again.
    Perhaps {
        /// The connection had been kept, and no byte came back.
        stale: bool,
    },
    /// All of it: the upstream has answered with a head that cannot be read.
    Unreadable,
}

impl Connection {
    /// Whether it has served another request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends `request` and waits for the response head. Dropping the future cancels the request: the connection is closed, or the
    /// stream reset.
    ///
    /// # Errors
    /// [`SendError`]: no response head came.
    pub async fn send(self, request: Request<Outbound>) -> Result<Answer, SendError> {
        let Self { transport, reused, pools, dialer } = self;
        let response = match transport {
            Transport::Http1(connection) => {
                let sent = Instant::now();
                match connection.send(request).await {
                    Ok(response) => response.map(Source::Http1),
                    Err((no_response, connection)) => {
                        let stale = reused && !connection.answered();
                        return Err(SendError::http1(no_response, stale, sent.elapsed()));
                    }
                }
            }
            Transport::Http2(mut sender, lease) => {
                let awaited = request.body().answer_awaited();
                match sender.try_send_request(request).await {
                    Ok(response) => response.map(|body| Source::Http2(body, awaited, lease)),
                    Err(error) => {
                        lease.failed(error.error());
                        return Err(SendError::http2(error));
                    }
                }
            }
        };
        Ok(Box::new(response.map(|source| AnswerBody::new(source, pools, dialer))))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1(_) => "Http1",
            Self::Http2(..) => "Http2",
        })
    }
}

impl SendError {
    fn http1(no_response: NoResponse, stale: bool, after: Duration) -> Self {
        let NoResponse { error, request } = no_response;
        let seen = match request {
            Some(request) => Delivery::Nothing(Some(request)),
            None if error.is_unreadable() => Delivery::Unreadable,
            None if stale && after < CROSSING => Delivery::Crossed,
            None => Delivery::Perhaps { stale },
        };
        Self { cause: error.into(), seen }
    }

    fn http2(mut error: TrySendError<Request<Outbound>>) -> Self {
        let request = error.take_message();
        let cause = error.into_error();
        let seen = if request.is_some() || is_refused(&cause) {
            Delivery::Nothing(request.map(Box::new))
        } else if http2::is_unreadable(&cause) {
            Delivery::Unreadable
        } else {
            Delivery::Perhaps { stale: false }
        };
        Self { cause: cause.into(), seen }
    }
}

/// Whether HTTP/2 says that the request was not processed: REFUSED_STREAM, or an orderly GOAWAY before it (RFC 9113 §8.7).
fn is_refused(error: &hyper::Error) -> bool {
    http2::beneath(error).is_some_and(|error| {
        let orderly = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        orderly || (error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}
