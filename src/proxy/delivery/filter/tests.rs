//! The filter against a reader that splits a whole stream at its blank lines and parses every event.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Streams of providers (tests/streams/README.md).
const STREAMS: [&str; 10] = [
    include_str!("../../../../tests/streams/openai-chat.sse"),
    include_str!("../../../../tests/streams/openai-completions.sse"),
    include_str!("../../../../tests/streams/azure.sse"),
    include_str!("../../../../tests/streams/vllm.sse"),
    include_str!("../../../../tests/streams/openrouter.sse"),
    include_str!("../../../../tests/streams/openrouter-apart.sse"),
    include_str!("../../../../tests/streams/gemini.sse"),
    include_str!("../../../../tests/streams/groq.sse"),
    include_str!("../../../../tests/streams/llama-cpp.sse"),
    include_str!("../../../../tests/streams/spaced.sse"),
];

/// What passes of a stream that comes in `frames`, and the events that were removed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filtered {
    passed: Vec<u8>,
    removed: Vec<Vec<u8>>,
}

impl Filtered {
    fn of<'f>(frames: impl IntoIterator<Item = &'f [u8]>) -> Self {
        let mut filter = EventFilter::default();
        let mut filtered = Self::default();
        for frame in frames {
            filter.take(Bytes::copy_from_slice(frame), &mut |event| filtered.removed.push(event.to_vec()));
            filtered.drain(&mut filter);
            assert!(filter.held.len() <= LONGEST && !filter.has_frames());
        }
        filter.finish(&mut |event| filtered.removed.push(event.to_vec()));
        filtered.drain(&mut filter);
        assert!(filter.is_empty() && filter.has_ended());
        filtered
    }

    fn drain(&mut self, filter: &mut EventFilter) {
        while let Some(frame) = filter.next() {
            let data = frame.into_data().unwrap();
            assert!(!data.is_empty());
            self.passed.extend_from_slice(&data);
        }
    }

    /// The same by the other reader, for a stream with LF whose events are data of one line.
    fn expected(stream: &str) -> Self {
        let mut expected = Self::default();
        for event in stream.split_inclusive("\n\n") {
            if has_usage_alone(event) {
                expected.removed.push(event.into());
            } else {
                expected.passed.extend_from_slice(event.as_bytes());
            }
        }
        expected
    }

    /// With other line ends.
    fn with_line_end(self, end: &str) -> Self {
        let replaced = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace('\n', end).into_bytes();
        Self { passed: replaced(self.passed), removed: self.removed.into_iter().map(replaced).collect() }
    }
}

fn has_usage_alone(event: &str) -> bool {
    let Some(data) = event.trim_end().strip_prefix("data:") else { return false };
    let Ok(chunk) = serde_json::from_str::<Value>(data) else { return false };
    chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object()
}

/// `stream` in pieces of these sizes in turn.
fn cut<'s>(stream: &'s [u8], sizes: &[usize]) -> Vec<&'s [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut rest = stream;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let size = sizes.next().map_or(1, |size| (*size).min(rest.len()));
        let (frame, later) = rest.split_at(size);
        frames.push(frame);
        rest = later;
    }
    frames
}

#[test]
fn each_provider_s_stream_loses_the_usage_chunk_and_nothing_else() {
    let removed: Vec<usize> = STREAMS.iter().map(|stream| Filtered::expected(stream).removed.len()).collect();
    assert_eq!(removed, [1, 1, 1, 1, 0, 1, 0, 1, 1, 1]);
    for stream in STREAMS {
        for end in ["\n", "\r\n", "\r"] {
            let text = stream.replace('\n', end);
            for size in [1, 2, 3, 7, 64, 333, text.len()] {
                let filtered = Filtered::of(text.as_bytes().chunks(size));
                let expected = Filtered::expected(stream).with_line_end(end);
                assert_eq!(filtered.passed, expected.passed, "{end:?} by {size}: {stream}");
                // An event that ends with CR ends there; the LF behind it is removed as well.
                let trimmed = |events: Vec<Vec<u8>>| {
                    events.iter().map(|event| event.trim_ascii_end().to_vec()).collect::<Vec<_>>()
                };
                assert_eq!(trimmed(filtered.removed), trimmed(expected.removed), "{end:?} by {size}");
            }
        }
    }
}

#[test]
fn the_last_event_may_lack_its_blank_line() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}";
    for end in ["", "\n", "\r\n"] {
        let stream = format!("data: x\n\n{usage}{end}");
        let filtered = Filtered::of(stream.as_bytes().chunks(5));
        assert_eq!((filtered.passed, filtered.removed.len()), (b"data: x\n\n".to_vec(), 1));
    }
    let half = &usage.as_bytes()[..usage.len() - 1];
    assert_eq!(Filtered::of([half]), Filtered { passed: half.to_vec(), removed: Vec::new() });
    let done = b"data: [DONE]";
    assert_eq!(Filtered::of([&done[..]]).passed, done);
}

#[test]
fn events_in_any_form_and_what_is_around_them() {
    let usage = "id: 9\nevent: chunk\ndata: {\"choices\":\ndata:  [ ],\n: within\ndata: \"usage\":{}}\n\n";
    for (before, after) in [
        ("\u{FEFF}", "data: [DONE]\n\n"),
        (": comment\n", "\n\n: comment"),
        ("data: 1\n\n\n", "retry: 1\n\n"),
        ("", ""),
    ] {
        let stream = [before, usage, after].concat();
        for size in 1..=stream.len() {
            let filtered = Filtered::of(stream.as_bytes().chunks(size));
            assert_eq!(filtered.passed, [before, after].concat().as_bytes(), "by {size}");
            assert_eq!(filtered.removed, [usage.as_bytes()], "by {size}");
        }
    }
}

#[test]
fn a_frame_of_whole_events_is_not_copied_and_comments_wait_for_nothing() {
    let mut filter = EventFilter::default();
    let mut pass = |frame: &Bytes| {
        filter.take(frame.clone(), &mut |event| panic!("{event:?}"));
        let passed = filter.next().map(|frame| frame.into_data().unwrap());
        assert!(!filter.has_frames());
        passed
    };
    for text in ["data: {\"choices\":[{}],\"usage\":{}}\n\ndata: 2\n\n", ": half of a com", "ment\n", "\r\n"]
    {
        let frame = Bytes::from(text.to_owned());
        let passed = pass(&frame).unwrap();
        assert_eq!((passed.as_ptr(), passed.len()), (frame.as_ptr(), frame.len()), "{text}");
    }
    // An unfinished event waits.
    assert_eq!(pass(&Bytes::from_static(b"data: 3")), None);
}

#[test]
fn a_longer_event_passes_as_it_comes_however_it_is_cut() {
    let padding = "x".repeat(LONGEST);
    let usage = format!("data: {{\"x\":\"{padding}\",\"choices\":[],\"usage\":{{}}}}\n\n");
    let short = "data: {\"choices\":[],\"usage\":{}}\n\n";
    let stream = [&*usage, short, "data: [DONE]\n\n"].concat();
    for size in [1000, LONGEST - 1, stream.len()] {
        let filtered = Filtered::of(stream.as_bytes().chunks(size));
        assert_eq!(filtered.passed, [&*usage, "data: [DONE]\n\n"].concat().as_bytes(), "by {size}");
        assert_eq!(filtered.removed, [short.as_bytes()], "by {size}");
    }
}

#[test]
fn what_is_kept_of_a_stream_that_breaks_off_is_given_out() {
    let mut filter = EventFilter::default();
    filter.take(Bytes::from_static(b"data: 1\n\ndata: {\"choi"), &mut |_| {});
    assert_eq!(filter.next().unwrap().into_data().unwrap(), "data: 1\n\n");
    assert_eq!(filter.rest(&mut |_| {}).unwrap(), "data: {\"choi");
    assert!(filter.is_empty());
}

proptest! {
    #[test]
    fn no_cut_of_a_stream_changes_the_result(
        number in 0..STREAMS.len(),
        sizes in prop::collection::vec(1..700_usize, 1..12),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let text = STREAMS[number].replace('\n', end);
        let filtered = Filtered::of(cut(text.as_bytes(), &sizes));
        prop_assert_eq!(filtered.passed, Filtered::expected(STREAMS[number]).with_line_end(end).passed);
    }

    #[test]
    fn no_cut_of_any_bytes_changes_the_result(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "data: {\"choices\":[],\"usage\":{}}", "data: {\"choices\":[{}]}", "data:", "data: {\"choices\":", "data: []}",
                "event: error", ": c", "id: 1", "\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "\u{FEFF}", "x", "data: [DONE]\n\n",
            ]),
            0..24,
        ),
        sizes in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let text = pieces.concat();
        let whole = Filtered::of([text.as_bytes()].into_iter().filter(|text| !text.is_empty()));
        let cut = Filtered::of(cut(text.as_bytes(), &sizes));
        prop_assert_eq!(&cut.passed, &whole.passed);
        prop_assert_eq!(cut.removed.len(), whole.removed.len());
        let kept: usize = whole.removed.iter().map(Vec::len).sum();
        // The LF of a removed CR LF is in neither.
        let lost = text.len() - whole.passed.len() - kept;
        prop_assert!(lost <= whole.removed.len());
    }
}
