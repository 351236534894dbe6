//! A downstream connection that has switched to another protocol.
//!
//! hyper's own way (`with_upgrades`, `hyper::upgrade::on`) is not taken here. It demands that the I/O is `Send`, which ours is not,
//! and it hands the I/O to another task, so that the connection would no longer count against `max_connections` nor in a drain.
//! hyper's plain connection does the same work until it would hand the I/O over, and then gives it back by `into_parts`.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Io;

/// The I/O of a connection after its response of 101.
#[derive(Debug)]
pub(crate) struct Upgraded {
    io: Io,
    /// What hyper had read behind the request; bounded by hyper's read buffer.
    early: Bytes,
}

impl Upgraded {
    /// `early` comes before what `io` still holds.
    pub(super) fn new(io: Io, early: Bytes) -> Self {
        Self { io, early }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let length = self.early.len().min(into.remaining());
        into.put_slice(self.early.get(..length).unwrap_or_default());
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
