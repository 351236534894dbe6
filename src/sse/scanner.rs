//! Finds event boundaries independently of how the stream is split into chunks.

use memchr::memchr2;

use super::Event;
use crate::outline::{Members, Outline};

/// Limit of one event's data in bytes (1 MiB). An event with more data is `oversized`.
///
/// The limit applies to events inside one chunk too, so that the result never depends on how the stream was split.
pub const DATA_LIMIT: usize = 1 << 20;

/// Limit of an event's name in bytes. The known names are far shorter; a longer name is truncated.
pub const NAME_LIMIT: usize = 128;

/// Capacity in bytes above which a buffer is freed after its event, so that an idle stream does not keep it.
const KEPT_CAPACITY: usize = 4 << 10;

/// Number of first bytes that determine a line's field; `event: ` is the longest relevant start.
const START_LEN: usize = 7;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Finds the events of one stream in its bytes as they pass by.
///
/// Memory: none while chunks end where events end; otherwise the unfinished event, at most [`DATA_LIMIT`] +
/// [`NAME_LIMIT`] bytes, of which up to 4 KiB are kept for the next event. Of an oversized event, an [`Outline`].
#[derive(Debug, Default)]
pub struct Scanner {
    /// Data of the unfinished event that came in earlier chunks, or that was joined from several lines.
    data: Vec<u8>,
    name: Vec<u8>,
    /// First bytes of the unfinished line, while they do not determine its field yet.
    start: [u8; START_LEN],
    start_len: usize,
    line: FieldLine,
    /// Number of bytes of a leading byte order mark found so far; `BOM.len()` also when the stream has no mark.
    bom: usize,
    /// Whether the last line ended with CR, so that a following LF belongs to its line end.
    after_cr: bool,
    /// Whether the unfinished event has a field of any name.
    has_field: bool,
    has_data: bool,
    oversized: bool,
    has_ids: bool,
    events: u64,
    /// What is kept of the data of an oversized event.
    members: Option<&'static Members>,
    outline: Option<Box<Outline>>,
}

/// The field of the unfinished line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum FieldLine {
    /// The line has not begun, or its field is not known yet.
    #[default]
    Start,
    Data,
    Name,
    /// A comment or an irrelevant field.
    Skip,
}

/// Parts of the unfinished event inside the current chunk, copied only if the chunk ends before the event.
#[derive(Default)]
struct InChunk<'c> {
    name: Option<&'c [u8]>,
    data: Option<&'c [u8]>,
}

impl Scanner {
    /// Creates a scanner for the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a scanner that keeps `members` of the data of an oversized event, if that is JSON.
    pub fn outlining(members: &'static Members) -> Self {
        Self { members: Some(members), ..Self::default() }
    }

    /// Scans the next bytes of the stream and calls `sink` once for each event that ends within them, in order.
    ///
    /// An event whose blank line ends with CR ends there, whether or not an LF follows. An unfinished last event is
    /// left to [`Scanner::finish`]. An event that begins and ends within `bytes` and has one data line is passed as slices of `bytes`.
    pub fn scan(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let mut rest = self.past_bom(bytes);
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        let mut parts = InChunk::default();
        while !rest.is_empty() {
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.keep(&parts);
                self.fragment(rest);
                return;
            };
            let (line, ended) = rest.split_at(end);
            rest = self.past_line_end(ended);
            if self.line != FieldLine::Start || self.start_len != 0 {
                self.fragment(line);
                self.end_fragments();
            } else if line.is_empty() {
                self.blank_line(&mut parts, sink);
            } else {
                self.whole_line(line, &mut parts);
            }
        }
        self.keep(&parts);
    }

    /// Calls `sink` with the last event if the stream ended without the blank line after it, even in the middle of a line.
    ///
    /// The standard discards such an event (WHATWG HTML, "Interpreting an event stream"); but its bytes have been passed on, and what it
    /// says of the exchange is true. Afterwards, the stream is at a boundary only if it was before.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let boundary = self.at_boundary();
        if self.line != FieldLine::Start || self.start_len > 0 {
            self.end_fragments();
        }
        self.blank_line(&mut InChunk::default(), sink);
        self.has_field = !boundary;
    }

    /// Whether a comment or an event of the gateway can be inserted here without changing the stream's meaning: at the
    /// start of the stream, or at the start of a line when no field has come since the last blank line.
    ///
    /// **After CR.** A blank line that ended with CR counts at once, though its LF may still come. A reader has ended
    /// the line at the CR, so the late LF, separated from it by the insertion, is one more blank line, and a blank line
    /// without an event before it has no effect. Waiting for the LF instead would keep a stream with bare CR from ever being
    /// at a boundary. Readers that know only LF would read the CR and the insertion as one line: see [`Scanner::after_cr`].
    ///
    /// **At the start.** An insertion before the first byte displaces a leading byte order mark, if the stream has one. No
    /// known provider sends one.
    pub fn at_boundary(&self) -> bool {
        !self.has_field && self.line == FieldLine::Start && self.start_len == 0 && matches!(self.bom, 0 | 3)
    }

    /// Whether the last byte was CR, the end of a line whose LF may still come.
    ///
    /// An event or a comment inserted here must begin with one LF: the LF completes the line end for readers that know
    /// only LF, and is part of the same line end for all others.
    pub fn after_cr(&self) -> bool {
        self.after_cr
    }

    /// Whether any line so far was an `id` field.
    ///
    /// Some readers keep the last id and dispatch an event at every blank line after it, even without data: `SSEDecoder.decode` in
    /// `_streaming.py` of openai-python 3.54, whose `Stream` then fails to parse the data, and of anthropic-sdk-python 2.14, whose `Stream`
    /// ignores events without a name and whose `raw_events` does not. In such a stream, no blank line may be inserted between two events.
    pub fn has_ids(&self) -> bool {
        self.has_ids
    }

    /// Number of events found so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns the bytes after a leading byte order mark, which may itself be split between chunks.
    fn past_bom<'c>(&mut self, bytes: &'c [u8]) -> &'c [u8] {
        let mut rest = bytes;
        while self.bom < BOM.len() {
            let Some((first, after)) = rest.split_first() else { break };
            if BOM.get(self.bom) == Some(first) {
                self.bom += 1;
                rest = after;
            } else {
                self.not_a_bom();
            }
        }
        rest
    }

    /// Notes that the stream has no byte order mark. Bytes that looked like the start of one begin a line of an unknown field.
    fn not_a_bom(&mut self) {
        if self.bom > 0 {
            self.line = FieldLine::Skip;
            self.has_field = true;
        }
        self.bom = BOM.len();
    }

    /// Returns the bytes after the line end that `ended` begins with.
    fn past_line_end<'c>(&mut self, ended: &'c [u8]) -> &'c [u8] {
        match ended {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\r'] => {
                self.after_cr = true;
                &[]
            }
            [_, rest @ ..] => rest,
            [] => &[],
        }
    }

    /// Processes a line that lies completely in the chunk.
    #[inline]
    fn whole_line<'c>(&mut self, line: &'c [u8], parts: &mut InChunk<'c>) {
        self.has_field |= line.first() != Some(&b':');
        match field(line) {
            FieldLine::Data => self.data_line(value(line, b"data"), parts),
            FieldLine::Name => parts.name = Some(value(line, b"event")),
            FieldLine::Skip | FieldLine::Start => self.has_ids |= is_id(line),
        }
    }

    #[inline]
    fn data_line<'c>(&mut self, value: &'c [u8], parts: &mut InChunk<'c>) {
        if !self.has_data && parts.data.is_none() {
            parts.data = Some(value);
            return;
        }
        if let Some(first) = parts.data.take() {
            self.begin_data();
            self.push_data(first);
        }
        self.begin_data();
        self.push_data(value);
    }

    #[inline]
    fn blank_line(&mut self, parts: &mut InChunk<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let InChunk { name, data } = std::mem::take(parts);
        if self.has_data || data.is_some() {
            self.events += 1;
            let name = name.map_or(self.name.as_slice(), cut_name);
            let data = data.unwrap_or(&self.data);
            if self.oversized || data.len() > DATA_LIMIT {
                if !self.oversized {
                    self.outline = self.members.map(|members| outline_of(members, data));
                }
                let data = self.outline.as_deref().map_or(&[][..], Outline::kept);
                sink(Event { name, data, oversized: true });
                self.outline = None;
            } else {
                sink(Event { name, data, oversized: false });
            }
        }
        self.forget_event();
    }

    #[inline]
    fn forget_event(&mut self) {
        self.has_field = false;
        self.has_data = false;
        self.oversized = false;
        self.name.clear();
        self.data.clear();
        if self.data.capacity() > KEPT_CAPACITY {
            self.data = Vec::new();
        }
    }

    /// Copies the parts of an unfinished event at the end of the chunk.
    fn keep(&mut self, parts: &InChunk<'_>) {
        if let Some(name) = parts.name {
            self.begin_name();
            self.push_name(name);
        }
        if let Some(data) = parts.data {
            self.begin_data();
            self.push_data(data);
        }
    }

    /// Processes a part of a line that began in an earlier chunk or does not end in this one.
    fn fragment(&mut self, part: &[u8]) {
        let part = if self.line == FieldLine::Start { self.settle_start(part) } else { part };
        match self.line {
            FieldLine::Data => self.push_data(part),
            FieldLine::Name => self.push_name(part),
            FieldLine::Skip | FieldLine::Start => {}
        }
    }

    /// Collects the line's first bytes until they determine its field; returns the remainder of `part`.
    fn settle_start<'c>(&mut self, part: &'c [u8]) -> &'c [u8] {
        let taken = part.len().min(START_LEN - self.start_len);
        let (head, rest) = part.split_at(taken);
        for (slot, byte) in self.start.iter_mut().skip(self.start_len).zip(head) {
            *slot = *byte;
        }
        self.start_len += taken;
        if self.start_len == START_LEN {
            self.begin_line();
        }
        rest
    }

    /// Begins the line's field with the collected first bytes, which are sufficient or the whole line.
    fn begin_line(&mut self) {
        let start = self.start;
        let start = start.get(..self.start_len).unwrap_or_default();
        self.start_len = 0;
        self.has_field |= start.first() != Some(&b':');
        self.line = field(start);
        match self.line {
            FieldLine::Data => {
                self.begin_data();
                self.push_data(value(start, b"data"));
            }
            FieldLine::Name => {
                self.begin_name();
                self.push_name(value(start, b"event"));
            }
            FieldLine::Skip | FieldLine::Start => self.has_ids |= is_id(start),
        }
    }

    /// Ends a line that came in fragments.
    fn end_fragments(&mut self) {
        if self.start_len > 0 {
            self.begin_line();
        }
        self.line = FieldLine::Start;
    }

    fn begin_name(&mut self) {
        self.name.clear();
    }

    fn push_name(&mut self, part: &[u8]) {
        let room = NAME_LIMIT.saturating_sub(self.name.len());
        self.name.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn begin_data(&mut self) {
        if self.has_data {
            self.push_data(b"\n");
        }
        self.has_data = true;
    }

    #[cold]
    fn push_oversized(&mut self, part: &[u8]) {
        let data = std::mem::take(&mut self.data);
        if !std::mem::replace(&mut self.oversized, true) {
            self.outline = self.members.map(|members| outline_of(members, &data));
        }
        if let Some(outline) = &mut self.outline {
            outline.push(part);
        }
    }

    fn push_data(&mut self, part: &[u8]) {
        let len = self.data.len() + part.len();
        if self.oversized || len > DATA_LIMIT {
            self.push_oversized(part);
            return;
        }
        if len > self.data.capacity() {
            // Doubles the capacity, but never exceeds the limit.
            let capacity = len.max(self.data.capacity() * 2).min(DATA_LIMIT);
            self.data.reserve_exact(capacity - self.data.len());
        }
        self.data.extend_from_slice(part);
    }
}

/// The outline of data that lies in one piece.
fn outline_of(members: &'static Members, data: &[u8]) -> Box<Outline> {
    let mut outline = Box::new(Outline::new(members));
    outline.push(data);
    outline
}

/// Determines the field of a line, from the whole line or its first [`START_LEN`] bytes.
#[inline]
fn field(line: &[u8]) -> FieldLine {
    if line.starts_with(b"data:") || line == b"data" {
        FieldLine::Data
    } else if line.starts_with(b"event:") || line == b"event" {
        FieldLine::Name
    } else {
        FieldLine::Skip
    }
}

/// Whether a line, or the first [`START_LEN`] bytes of it, is an `id` field.
#[inline]
fn is_id(line: &[u8]) -> bool {
    line.starts_with(b"id:") || line == b"id"
}

/// Returns the bytes after the field's name, the colon and one optional space.
#[inline]
fn value<'c>(line: &'c [u8], field: &[u8]) -> &'c [u8] {
    let value = line.get(field.len() + 1..).unwrap_or_default();
    value.strip_prefix(b" ").unwrap_or(value)
}

fn cut_name(name: &[u8]) -> &[u8] {
    name.get(..NAME_LIMIT).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (Vec<u8>, Vec<u8>, bool);

    fn scan(scanner: &mut Scanner, chunk: &[u8]) -> Vec<Found> {
        let mut seen = Vec::new();
        scanner
            .scan(chunk, &mut |event| seen.push((event.name.to_vec(), event.data.to_vec(), event.oversized)));
        seen
    }

    fn scan_all<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Found> {
        let mut scanner = Scanner::new();
        chunks.into_iter().flat_map(|chunk| scan(&mut scanner, chunk)).collect()
    }

    fn named(name: &str, data: &str) -> Found {
        (name.into(), data.into(), false)
    }

    #[test]
    fn each_line_end_and_any_mix_of_them() {
        for end in ["\n", "\r\n", "\r"] {
            let stream =
                format!("event: a{end}data: 1{end}{end}data: 2{end}: c{end}data: 3{end}{end}data: cut");
            assert_eq!(scan_all([stream.as_bytes()]), [named("a", "1"), named("", "2\n3")]);
        }
    }

    #[test]
    fn a_blank_line_ended_by_cr_ends_the_event_at_once() {
        let mut scanner = Scanner::new();
        assert_eq!(scan(&mut scanner, b"data: x\r\n\r"), [named("", "x")]);
        assert!(scanner.at_boundary() && scanner.after_cr());
        assert_eq!(scan(&mut scanner, b""), []);
        assert!(scanner.after_cr());
        assert_eq!(scan(&mut scanner, b"\n"), []);
        assert!(scanner.at_boundary() && !scanner.after_cr());
    }

    #[test]
    fn the_last_event_may_lack_its_blank_line_and_its_line_end() {
        let stream = b"event: a\ndata: 1\n\nevent: b\r\ndata: 2\r\ndata: [DONE]";
        for end in 0..=stream.len() {
            let part = &stream[..end];
            let expected = scan_all([[part, b"\n\n"].concat().as_slice()]);
            for size in [1, 7, stream.len()] {
                let mut scanner = Scanner::new();
                let mut seen: Vec<_> =
                    part.chunks(size).flat_map(|chunk| scan(&mut scanner, chunk)).collect();
                let boundary = scanner.at_boundary();
                for _ in 0..2 {
                    scanner.finish(&mut |event| {
                        seen.push((event.name.to_vec(), event.data.to_vec(), event.oversized));
                    });
                    assert_eq!(scanner.at_boundary(), boundary, "{end}");
                }
                assert_eq!(seen, expected, "{end} {size}");
            }
        }
    }

    #[test]
    fn an_insertion_is_out_of_place_inside_an_event() {
        let mut scanner = Scanner::new();
        assert!(scanner.at_boundary());
        for (chunk, boundary) in [
            ("\u{FEFF}", true),
            ("da", false),
            ("ta: x", false),
            ("\n", false),
            ("\n", true),
            (": no", false),
            ("thing\n", true),
            ("id: 1\n", false),
            ("\n", true),
            ("unknown\n", false),
            (": c\n", false),
            ("\r\n", true),
        ] {
            scan(&mut scanner, chunk.as_bytes());
            assert_eq!(scanner.at_boundary(), boundary, "after {chunk:?}");
        }
    }

    #[test]
    fn an_event_within_a_chunk_is_neither_copied_nor_allocated_for() {
        let chunk = b"event: n\ndata: {\"a\":1}\n\n".as_slice();
        let mut scanner = Scanner::new();
        scanner.scan(chunk, &mut |event| {
            assert!(chunk.as_ptr_range().contains(&event.data.as_ptr()));
            assert!(chunk.as_ptr_range().contains(&event.name.as_ptr()));
        });
        assert_eq!(scanner.events(), 1);
        assert_eq!((scanner.data.capacity(), scanner.name.capacity()), (0, 0));
    }

    #[test]
    fn the_bound_is_the_same_in_one_chunk_and_in_many() {
        for (len, oversized) in [(DATA_LIMIT, false), (DATA_LIMIT + 1, true)] {
            let stream = [b"event: big\ndata: ", vec![b'x'; len].as_slice(), b"\n\ndata: next\n\n"].concat();
            for size in [stream.len(), 70_001, 16_384] {
                let seen = scan_all(stream.chunks(size));
                assert_eq!(seen.len(), 2);
                assert_eq!(
                    (seen[0].0.as_slice(), seen[0].1.len(), seen[0].2),
                    (b"big".as_slice(), if oversized { 0 } else { len }, oversized)
                );
                assert_eq!(seen[1], named("", "next"));
            }
        }
    }

    #[test]
    fn many_lines_are_bound_as_one() {
        let line = [b"data: ".as_slice(), &vec![b'x'; DATA_LIMIT / 2], b"\n"].concat();
        let two = [line.as_slice(), &line, b"\n"].concat();
        // Two halves and the LF between them exceed the limit by one byte.
        assert_eq!(scan_all([two.as_slice()]), [(vec![], vec![], true)]);
        assert_eq!(scan_all(two.chunks(4096)), [(vec![], vec![], true)]);
    }

    #[test]
    fn ids_are_noticed_however_the_stream_is_split() {
        for (stream, has_ids) in [
            ("data: x\n\nid: 7\ndata: y\n\n", true),
            ("id\r\ndata: y\r\n\r\n", true),
            ("id:\rdata: y\r\r", true),
            ("ids: 7\ndata: id: 7\n: id: 7\nevent: id\n\n", false),
        ] {
            for size in 1..=stream.len() {
                let mut scanner = Scanner::new();
                for chunk in stream.as_bytes().chunks(size) {
                    scan(&mut scanner, chunk);
                }
                assert_eq!(scanner.has_ids(), has_ids, "{stream:?} by {size}");
            }
        }
    }

    #[test]
    fn memory_stays_within_the_bound_and_is_given_back() {
        let mut scanner = Scanner::new();
        scan(&mut scanner, b"data: ");
        for _ in 0..(2 * DATA_LIMIT / 8192) {
            scan(&mut scanner, &[b'x'; 8192]);
            assert!(scanner.data.capacity() <= DATA_LIMIT);
        }
        assert_eq!(scan(&mut scanner, b"\n\n"), [(vec![], vec![], true)]);
        scan(&mut scanner, b"data: ");
        scan(&mut scanner, &[b'x'; 100_000]);
        assert_eq!(scan(&mut scanner, b"\n\n").len(), 1);
        assert_eq!(scanner.data.capacity(), 0);
        scan(&mut scanner, b": ");
        scan(&mut scanner, &[b'x'; 100_000]);
        assert_eq!(scanner.data.capacity(), 0, "a comment is not kept");
        scan(&mut scanner, b"\nevent: ");
        scan(&mut scanner, &[b'x'; 100_000]);
        assert!(scanner.name.capacity() <= 2 * NAME_LIMIT);
        let seen = scan(&mut scanner, b"\ndata\n\n");
        assert_eq!(seen, [(vec![b'x'; NAME_LIMIT], vec![], false)]);
    }
}
