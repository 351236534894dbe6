//! Why a response over HTTP/1.1 did not come, or not to its end.

use std::io;

use thiserror::Error;

use super::{MAX_BEFORE_ANSWER, MAX_HEAD};
use crate::body::UploadError;

/// Why a response over HTTP/1.1 did not come, or not to its end.
#[derive(Debug, Error)]
pub enum Http1Error {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The connection was closed before a response head was complete.
    #[error("the connection was closed before the response head was complete")]
    NoHead,
    /// The response head is not HTTP/1.1.
    #[error("the response head is not valid")]
    Head(#[source] httparse::Error),
    /// The response head exceeds [`MAX_HEAD`].
    #[error("the response head is larger than {} KiB", MAX_HEAD >> 10)]
    HeadTooLarge,
    /// Interim responses exceed [`MAX_BEFORE_ANSWER`].
    #[error("interim responses exceed the limit of {} MiB before a final response", MAX_BEFORE_ANSWER >> 20)]
    EndlessHead,
    /// `content-length` is not one number (RFC 9112 §6.3).
    #[error("the response has an invalid content-length")]
    Length,
    /// A response of HTTP/1.0 has `transfer-encoding` (RFC 9112 §6.1).
    #[error("a response of HTTP/1.0 has transfer-encoding")]
    Coding,
    /// The connection was closed before the response body was complete.
    #[error("the connection was closed before the response body was complete")]
    Incomplete,
    /// The chunked coding of the response body is not valid.
    #[error("the chunked response body is not valid: {0}")]
    Chunk(&'static str),
    /// The request body broke off.
    #[error("the request body ended early")]
    Upload(#[source] UploadError),
    /// The request body has another length than its head says.
    #[error("the request body has another length than its content-length")]
    UploadLength,
    /// A response of 101 was expected.
    #[error("the upstream has not switched protocols")]
    NotSwitched,
}

impl Http1Error {
    /// Whether the upstream has sent a response head that cannot be read.
    pub(in crate::upstream) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Head(_) | Self::HeadTooLarge | Self::EndlessHead | Self::Length | Self::Coding)
    }
}
