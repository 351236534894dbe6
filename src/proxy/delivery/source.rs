//! Where the bytes of a response come from.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{
    proxy::buffered::Buffered,
    upstream::{AnswerBody, BodyError},
};

/// Where the bytes of a response come from.
#[derive(Debug)]
pub(super) enum Source {
    /// An upstream sends them.
    Upstream {
        /// Frames that were read while the response was held back; they go first.
        held: VecDeque<Frame<Bytes>>,
        /// Their count, until the last one goes out.
        counted: Option<Buffered>,
        /// The rest; `None` if there is none that counts.
        body: Option<AnswerBody>,
    },
    /// The gateway has them. `None` once they were handed over.
    Local(Option<Bytes>),
}

impl Source {
    /// A source of `bytes`, which may be empty.
    pub(super) fn local(bytes: Bytes) -> Self {
        Self::Local((!bytes.is_empty()).then_some(bytes))
    }

    /// Whether the bytes are the gateway's own.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The next frame.
    #[inline]
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Upstream { held, counted, body } => {
                if let Some(frame) = held.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                *counted = None;
                body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
            }
            Self::Local(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    /// Whether every byte that was promised has been handed over.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Upstream { held, body, .. } => {
                held.is_empty() && body.as_ref().is_none_or(AnswerBody::is_whole)
            }
            Self::Local(bytes) => bytes.is_none(),
        }
    }

    /// Whether no frame is left.
    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream { held, body, .. } => {
                held.is_empty() && body.as_ref().is_none_or(Body::is_end_stream)
            }
            Self::Local(bytes) => bytes.is_none(),
        }
    }

    /// The length of the remaining bytes.
    pub(super) fn size_hint(&self) -> SizeHint {
        let (held, body) = match self {
            Self::Upstream { held, body, .. } => (held, body),
            Self::Local(bytes) => {
                return SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
            }
        };
        let mut hint = body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let held: u64 = held.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        match hint.exact() {
            Some(exact) => hint.set_exact(exact + held),
            None => hint.set_lower(hint.lower() + held),
        }
        hint
    }
}
