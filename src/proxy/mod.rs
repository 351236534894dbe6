//! The one request path: a request comes in from a listener, an answer goes back.

pub mod crossing;
mod downstream;
mod gateway;
pub mod headers;
pub mod path;
mod worker;

use std::{convert::Infallible, rc::Rc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};

pub use downstream::Downstream;
pub use gateway::Gateway;
pub use worker::{Counted, Load, Worker};

/// The response body of an exchange.
pub type Relay = Full<Bytes>;

/// Answers one request. Cannot fail: every failure becomes an answer that says so.
pub async fn handle(
    _worker: Rc<Worker>,
    _downstream: Rc<Downstream>,
    _request: Request<Incoming>,
) -> Result<Response<Relay>, Infallible> {
    Ok(Response::new(Full::default()))
}
