//! Reads a request body whole, within bounds, and the facts in it: JSON, compressed or not, and forms, large ones into a file.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body::Body;

use super::{
    bounds::{Bounds, SpoolBounds, next},
    spooled::{self, Beginning, SpooledForm},
};
use crate::{
    body::{RequestBody, SpoolFile, UploadTally},
    coding::{Coding, DecodeError, Need},
    fault::Fault,
    openai::{self, Check, EditPoints, Facts, FactsError, FormReader, ModelUse, Operation},
    proxy::{
        Gateway,
        body_memory::{BodyMemory, MAPPED_FROM},
        buffered::{self, Buffered},
    },
    upstream::Affinity,
};

/// From this size on, in bytes, a body is scanned on a thread for blocking work, so that the worker's streams are not delayed.
const LARGE: usize = 1 << 20;

/// The most memory that is reserved for a body, as a multiple of what has arrived, whatever its `content-length` claims.
const AHEAD: usize = 4;

/// From this size on, in bytes, a compressed body is decoded on such a thread.
const LARGE_CODED: usize = 16 << 10;

/// A request body, held whole.
#[derive(Debug)]
pub(super) struct HeldBody {
    pub(super) content: HeldContent,
    /// The same, decoded, if they are compressed; counted in the same way.
    pub(super) decoded: Option<Bytes>,
    pub(super) facts: Facts,
}

/// Where a body is held.
#[derive(Debug)]
pub(super) enum HeldContent {
    /// The bytes count against the process-wide bound until their last clone is dropped.
    Memory(Bytes),
    /// In a file.
    File(Arc<SpoolFile>),
}

/// A body that can be read.
#[derive(Debug)]
pub(super) enum BodyForm {
    Json,
    /// JSON that is compressed.
    Coded(Coding),
    /// A multipart form.
    Multipart {
        boundary: String,
        /// Whether its field `session` names the model.
        in_session: bool,
    },
}

impl HeldBody {
    /// Has the models of the session in a JSON body in the place of its member `model`.
    pub(super) fn take_session(&mut self) -> Result<(), Fault> {
        let HeldContent::Memory(bytes) = &self.content else { return Ok(()) };
        let text = self.decoded.as_ref().unwrap_or(bytes);
        let is_json = matches!(self.facts.edit_points, EditPoints::Object { .. });
        if is_json { self.facts.take_session(text).map_err(Fault::BodyInvalid) } else { Ok(()) }
    }
}

impl BodyForm {
    /// The form of a request's body, if the gateway can read it and needs its facts: JSON, also if it is compressed by gzip or zstd, and forms
    /// of operations that have a `model`.
    pub(super) fn of(method: &Method, headers: &HeaderMap, operation: Operation) -> Option<Self> {
        if matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let content_type = headers.get(header::CONTENT_TYPE)?;
        let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        if is_json(content_type.as_bytes()) {
            return if plain { Some(Self::Json) } else { Coding::of(headers).map(Self::Coded) };
        }
        if !plain || !operation.model.is_in_body() {
            return None;
        }
        let boundary = openai::boundary(content_type.to_str().ok()?)?;
        let in_session = operation.model == ModelUse::InSession;
        Some(Self::Multipart { boundary: boundary.to_owned(), in_session })
    }

    /// A reader of a form.
    fn reader(&self) -> Option<FormReader> {
        let Self::Multipart { boundary, in_session } = self else { return None };
        Some(if *in_session { FormReader::of_session(boundary) } else { FormReader::new(boundary) })
    }

    /// Whether a body of this form is forwarded as it arrives, without being read, because it may be larger than `limit` and nothing depends on
    /// its facts: a form of that size, or of unknown size, if `is_needed` is false.
    pub(super) fn may_be_streamed(&self, body: &RequestBody, limit: u64, is_needed: bool) -> bool {
        let fits = body.size_hint().exact().is_some_and(|length| length <= limit);
        matches!(self, Self::Multipart { .. }) && !is_needed && !fits
    }
}

/// `application/json` or a `+json` type, whatever its parameters (RFC 6838 §4.2.8).
pub(in crate::proxy) fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let suffix = |suffix: &[u8]| {
        essence.len().checked_sub(suffix.len()).is_some_and(|at| essence[at..].eq_ignore_ascii_case(suffix))
    };
    essence.eq_ignore_ascii_case(b"application/json") || suffix(b"+json")
}

/// Reads `body` whole, and the facts in it.
///
/// # Errors
/// The body is too large, stops arriving, breaks off, is not of its form, is ambiguous, or does not fit into the process-wide bound.
pub(super) async fn read(
    mut body: RequestBody,
    form: BodyForm,
    bounds: Bounds,
    gateway: &Arc<Gateway>,
    tally: &UploadTally,
) -> Result<HeldBody, Fault> {
    let announced = body.size_hint().lower();
    if announced > bounds.limit {
        return Err(Fault::BodyTooLarge { limit: bounds.limit });
    }
    let mut gathered = Gathered::new(gateway);
    // Of a form that goes to a file, no more room is made than for what is held in memory.
    let in_memory = match (&form, &bounds.spool) {
        (BodyForm::Multipart { .. }, Some(spool)) => spool.above.min(bounds.limit),
        _ => bounds.limit,
    };
    let memory = Bounds { limit: in_memory, ..bounds.clone() };
    while let Some(frame) = next(&mut body, bounds.idle, tally).await? {
        let Ok(data) = frame.into_data() else { continue };
        if gathered.length() + data.len() as u64 > in_memory
            && let (Some(reader), Some(SpoolBounds { spool, .. })) = (form.reader(), &bounds.spool)
        {
            let beginning = Beginning { bytes: [gathered.whole(), data], reader, spool: spool.clone() };
            let spooled = Box::pin(spooled::read(body, beginning, bounds, gateway, tally)).await?;
            let SpooledForm { file, facts } = spooled;
            return Ok(HeldBody { content: HeldContent::File(file), decoded: None, facts });
        }
        gathered.take(data, announced.min(in_memory), &memory, tally)?;
    }
    let bytes = gathered.whole();
    let large = if matches!(form, BodyForm::Coded(_)) { LARGE_CODED } else { LARGE };
    if bytes.len() < large {
        return with_facts(bytes, &form, &bounds, gateway);
    }
    let gateway = gateway.clone();
    let reading = tokio::task::spawn_blocking(move || with_facts(bytes, &form, &bounds, &gateway));
    reading.await.map_err(|error| Fault::Internal(error.into()))?
}

/// The part of a body that has arrived.
struct Gathered {
    /// The only piece, as it came.
    first: Bytes,
    /// All of them, if there are several.
    rest: Option<BodyMemory>,
    held: Buffered,
}

impl Gathered {
    fn new(gateway: &Arc<Gateway>) -> Self {
        Self { first: Bytes::new(), rest: None, held: Buffered::new(gateway) }
    }

    /// Number of bytes that have arrived.
    fn length(&self) -> u64 {
        (self.first.len() + self.rest.as_ref().map_or(0, BodyMemory::len)) as u64
    }

    /// Adds a piece. `announced` is the body's `content-length`, or 0 if it has none.
    fn take(
        &mut self,
        data: Bytes,
        announced: u64,
        bounds: &Bounds,
        tally: &UploadTally,
    ) -> Result<(), Fault> {
        let length = self.length() as usize + data.len();
        tally.whole(length as u64);
        if length as u64 > bounds.limit {
            return Err(Fault::BodyTooLarge { limit: bounds.limit });
        }
        self.held.grow_to(length as u64, bounds.buffered)?;
        if self.first.is_empty() && self.rest.is_none() {
            self.first = data;
            return Ok(());
        }
        let memory = match self.rest.take() {
            Some(memory) if memory.capacity() >= length => memory,
            small => self.enlarged(small.as_ref(), length, announced, bounds)?,
        };
        self.held.grow_to(memory.taken_by(length) as u64, bounds.buffered)?;
        self.rest.insert(memory).put(&data);
        Ok(())
    }

    /// Memory for at least `length` bytes, with what came so far. While that is copied, both memories count.
    fn enlarged(
        &mut self,
        small: Option<&BodyMemory>,
        length: usize,
        announced: u64,
        bounds: &Bounds,
    ) -> Result<BodyMemory, Fault> {
        let bound = bounds.buffered;
        let mut large = room(length, small, announced, bounds.limit);
        let mut of_small = self.held.another();
        of_small.grow_to(small.map_or(0, |small| small.taken_by(small.len())) as u64, bound)?;
        self.held.grow_to(large.taken_by(length) as u64, bound)?;
        large.put(&std::mem::take(&mut self.first));
        large.put(small.map_or(&[], AsRef::as_ref));
        Ok(large)
    }

    fn whole(self) -> Bytes {
        let Self { first, rest, held } = self;
        match rest {
            None => buffered::own(first, held),
            Some(memory) => memory.freeze(held),
        }
    }
}

/// Memory for a body of which `length` bytes have arrived, and which may become `limit` bytes long.
fn room(length: usize, small: Option<&BodyMemory>, announced: u64, limit: u64) -> BodyMemory {
    let ahead = (announced as usize).min(length.saturating_mul(AHEAD));
    if ahead as u64 == announced && ahead >= length {
        return BodyMemory::with_capacity(ahead);
    }
    let room = length.max(ahead).max(small.map_or(0, |small| 2 * small.capacity()));
    if room < MAPPED_FROM {
        return BodyMemory::for_growth(room);
    }
    // Such memory is taken only where something is written, so the body need not be copied again as it grows.
    let whole = if announced > 0 { announced.min(limit) } else { limit };
    BodyMemory::for_growth(length.max(usize::try_from(whole).unwrap_or(length)))
}

/// The affinity of the beginning of the body's prompt, if it has one.
pub(super) async fn prompt(bytes: &Bytes) -> Option<Affinity> {
    let hash = |bytes: &[u8]| {
        let parts = openai::opening(bytes)?.into_iter();
        Some(parts.fold(Affinity::of(b""), |value, part| value.and(part).and(b"\n")))
    };
    if bytes.len() < LARGE {
        return hash(bytes);
    }
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || hash(&bytes)).await.ok().flatten()
}

/// Reads the facts of a body that has arrived.
fn with_facts(
    bytes: Bytes,
    form: &BodyForm,
    bounds: &Bounds,
    gateway: &Arc<Gateway>,
) -> Result<HeldBody, Fault> {
    let mut decoded = None;
    let read = match form {
        BodyForm::Json => facts(&bytes, bounds.check),
        BodyForm::Multipart { .. } => form.reader().map_or_else(
            || Ok(Facts::default()),
            |mut reader| {
                reader.feed(&bytes);
                reader.finish().map_err(Fault::BodyInvalid)
            },
        ),
        BodyForm::Coded(coding) => {
            let mut held = Buffered::new(gateway);
            let mut decoder = Buffered::new(gateway);
            let reserve = |need| match need {
                Need::Body(bytes) => held.grow_to(bytes, bounds.buffered),
                Need::Decoder(bytes) => decoder.grow_to(bytes, bounds.buffered),
            };
            let text =
                coding.decode(&bytes, bounds.limit, reserve).map_err(|error| undecoded(error, bounds))?;
            let text = decoded.insert(buffered::own(text.into(), held));
            facts(text, bounds.check)
        }
    };
    let facts = read?;
    Ok(HeldBody { content: HeldContent::Memory(bytes), decoded, facts })
}

/// The facts of a JSON body, which is checked on the way.
fn facts(text: &[u8], check: Option<Check>) -> Result<Facts, Fault> {
    match check {
        None => Facts::read(text).map_err(Fault::BodyInvalid),
        Some(check) => check.read(text).map_err(Fault::from),
    }
}

fn undecoded(error: DecodeError<Fault>, bounds: &Bounds) -> Fault {
    match error {
        DecodeError::Invalid { problem } => Fault::BodyInvalid(FactsError::NotDecodable { problem }),
        DecodeError::TooLarge => Fault::BodyTooLarge { limit: bounds.limit },
        DecodeError::NoRoom(fault) => fault,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{config::Server, exchange::AccessLog, snapshot::Snapshot};

    #[test]
    fn a_large_body_that_says_its_length_is_copied_once() {
        let snapshot = Snapshot::of_listeners(1, Server::default(), Vec::new());
        let gateway = Gateway::new(snapshot, AccessLog::discarding());
        let idle = Duration::from_secs(1);
        let bounds = Bounds { limit: 64 << 20, idle, buffered: u64::MAX, check: None, spool: None };
        // As on a new connection, and on one that has read large pieces before.
        for pieces in [&[8, 16, 32, 64, 64, 64, 8][..], &[64, 64, 64, 64]] {
            let mut gathered = Gathered::new(&gateway);
            let mut places = Vec::new();
            for kibibytes in pieces {
                let piece = Bytes::from(vec![b'x'; kibibytes << 10]);
                assert!(gathered.take(piece, 256 << 10, &bounds, &UploadTally::default()).is_ok());
                places.extend(gathered.rest.as_ref().map(|memory| memory.as_ref().as_ptr()));
            }
            places.dedup();
            assert_eq!((places.len(), gathered.whole().len()), (1, 256 << 10));
        }
    }

    /// Whatever its length was said to be: what a body takes is never more than what is counted of it.
    #[test]
    fn what_room_is_made_for_is_counted() {
        let snapshot = Snapshot::of_listeners(1, Server::default(), Vec::new());
        let gateway = Gateway::new(snapshot, AccessLog::discarding());
        let idle = Duration::from_secs(1);
        let bounds = Bounds { limit: 64 << 20, idle, buffered: u64::MAX, check: None, spool: None };
        for announced in [0, 1, 100_000, 33_000_000, u64::MAX] {
            let mut gathered = Gathered::new(&gateway);
            let piece = Bytes::from(vec![b'x'; 60_000]);
            for taken in 1..=550 {
                assert!(gathered.take(piece.clone(), announced, &bounds, &UploadTally::default()).is_ok());
                let counted = gateway.buffered();
                let rest = gathered.rest.as_ref().map_or(0, |memory| memory.taken_by(memory.len()));
                let room = gathered.first.len() + rest;
                assert!(room as u64 <= counted, "{room} of {counted} after {taken} of {announced}");
                // Nor much more than there is.
                assert!(counted <= taken * 60_000 * AHEAD as u64, "{counted} after {taken} of {announced}");
            }
            assert_eq!(gathered.whole().len(), 550 * 60_000);
            assert_eq!(gateway.buffered(), 0);
        }
    }
}
