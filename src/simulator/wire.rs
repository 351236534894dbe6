//! One request and its response on a connection: the interface that scripts use for both HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    ending::{Cut, Ended},
    script::Head,
    upload::Upload,
};

/// The operations of a script. An `Err` is the way in which the request has ended.
///
/// The two implementations are `Http1` and `Stream`. Functions are generic over them, so that no frame needs a boxed
/// future.
pub(super) trait Wire {
    /// Reads up to `up_to` more bytes of the request body, or to its end.
    async fn read_body(&mut self, up_to: u64) -> Result<(), Ended>;

    /// The request body as far as it has been read.
    fn upload(&self) -> &Upload;

    /// Sends an interim response (1xx).
    async fn informational(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Ended>;

    /// Begins the response. The head may be held back until [`send`](Wire::send), [`flush`](Wire::flush) or
    /// [`end`](Wire::end).
    async fn head(&mut self, head: &Head) -> Result<(), Ended>;

    /// Sends body bytes. `bytes` is never empty.
    async fn send(&mut self, bytes: Bytes) -> Result<(), Ended>;

    /// Writes bytes without any framing.
    async fn raw(&mut self, bytes: Bytes) -> Result<(), Ended>;

    /// Writes everything sent so far to the kernel.
    async fn flush(&mut self) -> Result<(), Ended>;

    /// Ends the response, and reads the rest of the request body.
    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Ended>;

    /// Waits until the client has left. The future may be dropped and the function called again.
    async fn peer_gone(&mut self) -> Ended;

    /// Cuts the response off.
    async fn cut(&mut self, cut: Cut) -> Ended;
}
