//! Reads a large form into a file, and the facts in it.

use std::sync::Arc;

use bytes::Bytes;

use super::bounds::{Bounds, next};
use crate::{
    body::{RequestBody, Spool, SpoolError, SpoolFile, UploadTally},
    fault::Fault,
    openai::{Facts, FormReader},
    proxy::{Gateway, body_memory::BodyMemory, buffered::Buffered},
};

/// How much is written at once, in bytes.
const BLOCK: usize = 512 << 10;

/// A form in a file.
#[derive(Debug)]
pub(super) struct SpooledForm {
    pub(super) file: Arc<SpoolFile>,
    pub(super) facts: Facts,
}

/// The beginning of a form that is larger than what is held in memory.
pub(super) struct Beginning {
    /// What has arrived, one after the other.
    pub(super) bytes: [Bytes; 2],
    pub(super) reader: FormReader,
    pub(super) spool: Spool,
}

/// The file, and the reader of what is in it. It goes to a thread for blocking work and back with each block.
struct Writer {
    file: SpoolFile,
    reader: FormReader,
}

/// Reads the rest of `body` behind its `beginning`.
///
/// # Errors
/// The body is too large, stops arriving, breaks off or is ambiguous; or there is no room for it.
pub(super) async fn read(
    mut body: RequestBody,
    beginning: Beginning,
    bounds: Bounds,
    gateway: &Arc<Gateway>,
    tally: &UploadTally,
) -> Result<SpooledForm, Fault> {
    let Beginning { bytes, reader, spool } = beginning;
    let mut total = bytes.iter().map(Bytes::len).sum::<usize>() as u64;
    let mut writer = blocking(move || {
        let mut writer = Writer { file: SpoolFile::create(&spool)?, reader };
        bytes.iter().try_for_each(|bytes| writer.write(bytes))?;
        Ok(writer)
    })
    .await?;
    let mut held = Buffered::new(gateway);
    held.grow_to(BLOCK as u64, bounds.buffered)?;
    let mut block = BodyMemory::with_capacity(BLOCK);
    while let Some(frame) = next(&mut body, bounds.idle, tally).await? {
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        tally.whole(total);
        if total > bounds.limit {
            return Err(Fault::BodyTooLarge { limit: bounds.limit });
        }
        let mut rest = block.put(&data);
        while block.len() == block.capacity() {
            (writer, block) = written(writer, block).await?;
            rest = block.put(rest);
        }
    }
    let (writer, _) = written(writer, block).await?;
    let Writer { file, reader } = writer;
    let facts = reader.finish().map_err(Fault::BodyInvalid)?;
    Ok(SpooledForm { file: Arc::new(file), facts })
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.reader.feed(bytes);
        self.file.append(bytes)
    }
}

/// Writes a full block, and returns it empty.
async fn written(mut writer: Writer, mut block: BodyMemory) -> Result<(Writer, BodyMemory), Fault> {
    blocking(move || {
        writer.write(block.as_ref())?;
        block.clear();
        Ok((writer, block))
    })
    .await
}

/// Runs `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| Fault::Internal(error.into()))?;
    done.map_err(|error| {
        let shown = match &error {
            SpoolError::Full(_) => error.to_string(),
            SpoolError::Io { source, .. } => format!("{error}: {source}"),
        };
        tracing::warn!(error = %shown, "request body not spooled to disk");
        match error {
            SpoolError::Full(_) => Fault::SpoolFull,
            SpoolError::Io { .. } => Fault::SpoolFailed(error.into()),
        }
    })
}
