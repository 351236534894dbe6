//! One request on its connection, as a script sees it: the same for HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    record::Ended,
    script::{Cut, Head},
    upload::Upload,
};

/// What a script can do to a request. Each `Err` says how the request has ended.
///
/// The two implementations are `Http1` and `Stream`; the functions are generic over them, so that nothing is
/// boxed for each frame.
pub(super) trait Wire {
    /// Reads up to so many more bytes of the request's body, or to its end.
    async fn read_body(&mut self, up_to: u64) -> Result<(), Ended>;

    /// What is known of the body.
    fn upload(&self) -> &Upload;

    /// Sends an interim answer.
    async fn inform(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Ended>;

    /// Begins the answer; may hold it back until [`send`](Wire::send), [`flush`](Wire::flush) or [`end`](Wire::end).
    async fn head(&mut self, head: &Head) -> Result<(), Ended>;

    /// Sends body bytes, which are never none.
    async fn send(&mut self, bytes: Bytes) -> Result<(), Ended>;

    /// Writes bytes as they are.
    async fn raw(&mut self, bytes: Bytes) -> Result<(), Ended>;

    /// Brings what was sent to the kernel.
    async fn flush(&mut self) -> Result<(), Ended>;

    /// Ends the answer, and reads what is left of the request's body.
    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Ended>;

    /// Waits until the other side has gone. May be dropped and called again.
    async fn gone(&mut self) -> Ended;

    /// Cuts the answer off.
    async fn cut(&mut self, cut: Cut) -> Ended;
}
