//! A request body that is sent from a file, with a few pieces of it replaced.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    SpoolFile,
    outbound::{Awaited, UploadError, UploadTally},
};

/// How much is read at once, in bytes.
const READ: u64 = 128 << 10;

/// A part of a body in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilePiece {
    /// These bytes of the file.
    File(Range<u64>),
    /// Other bytes.
    Bytes(Bytes),
}

/// A request body that is sent from a file.
#[derive(Debug)]
pub struct FileUpload {
    file: Arc<SpoolFile>,
    pieces: VecDeque<FilePiece>,
    /// The bytes that are read next.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// Number of bytes that were not handed over yet.
    pub(super) left: u64,
    tally: Rc<UploadTally>,
    pub(super) answer: Rc<Awaited>,
}

impl FileUpload {
    /// A body of these `pieces`, those of the file from `file`. `tally` learns when they are handed over.
    pub fn new(file: Arc<SpoolFile>, pieces: Vec<FilePiece>, tally: Rc<UploadTally>) -> Self {
        let length = |piece: &FilePiece| match piece {
            FilePiece::File(range) => range.end.saturating_sub(range.start),
            FilePiece::Bytes(bytes) => bytes.len() as u64,
        };
        let left = pieces.iter().map(length).sum();
        let pieces = pieces.into_iter().filter(|piece| length(piece) > 0).collect();
        Self { file, pieces, reading: None, left, tally, answer: Rc::default() }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.answer.is_over() {
            return Poll::Ready(Some(Err(UploadError::Over(h2::Reason::CANCEL.into()))));
        }
        if self.reading.is_none() {
            match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(FilePiece::Bytes(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    self.pieces.pop_front();
                    return Poll::Ready(Some(Ok(self.handed_over(bytes))));
                }
                Some(FilePiece::File(range)) => {
                    let count = (range.end - range.start).min(READ);
                    let (file, offset) = (self.file.clone(), range.start);
                    range.start += count;
                    if range.is_empty() {
                        self.pieces.pop_front();
                    }
                    self.reading = Some(spawn_blocking(move || file.read(offset, count as usize)));
                }
            }
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = match Pin::new(reading).poll(cx) {
            Poll::Pending => {
                self.answer.wake_with(cx.waker());
                return Poll::Pending;
            }
            Poll::Ready(read) => read,
        };
        self.reading = None;
        match read.map_err(io::Error::other).flatten() {
            Ok(bytes) => Poll::Ready(Some(Ok(self.handed_over(bytes.into())))),
            Err(error) => {
                self.tally.file_failed();
                Poll::Ready(Some(Err(UploadError::File(error))))
            }
        }
    }

    fn handed_over(&mut self, bytes: Bytes) -> Frame<Bytes> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.tally.has_moved();
        Frame::data(bytes)
    }
}
