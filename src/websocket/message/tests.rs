use proptest::{collection::vec, prelude::*};

use super::{
    super::writer::{self, Sender},
    *,
};
use crate::openai::OUTLINED;

const ALL: Interest = Interest { wants: |_| true, members: &OUTLINED, binary: true };

/// What is seen of `bytes` if they arrive in pieces of these lengths.
fn seen(bytes: &[u8], pieces: &[usize], interest: Interest) -> (Vec<String>, u64, bool) {
    let mut reader = MessageReader::new(interest);
    let mut found = Vec::new();
    let mut on = |seen: Observed<'_>| {
        found.push(match seen {
            Observed::Message { text, whole, .. } => format!("{whole} {}", String::from_utf8_lossy(text)),
            Observed::Unreadable => "unreadable".to_owned(),
            Observed::Close(Close { code, reason }) => format!("close {code:?} {reason}"),
        });
    };
    let mut rest = bytes;
    let mut lengths = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let (mut piece, later) = rest.split_at(lengths.next().unwrap().clamp(1, rest.len()));
        while !piece.is_empty() {
            let read = reader.read_frame(piece, &mut on);
            assert!(read > 0, "a reader that makes no progress");
            piece = &piece[read..];
        }
        rest = later;
    }
    let between = reader.is_between_frames();
    (found, reader.frames(), between)
}

/// A frame with these first bits.
fn raw(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let sender = mask.map_or(Sender::Server, |mask| Sender::Client { mask });
    let mut frame = writer::text(sender, std::str::from_utf8(payload).unwrap());
    frame[0] = first;
    frame
}

const MASK: Option<[u8; 4]> = Some([1, 2, 250, 7]);

#[test]
fn messages_in_one_frame_of_every_length() {
    for mask in [None, MASK] {
        for length in [0, 1, 63, 64, 95, 96, 97, 125, 126, 127, 65_535, 65_536] {
            let text = "x".repeat(length);
            let (found, frames, between) = seen(&raw(0x81, mask, text.as_bytes()), &[], ALL);
            assert!(between && frames == 1);
            assert_eq!(found, [format!("true {text}")].as_slice(), "{length}");
        }
    }
}

#[test]
fn a_fragmented_message_with_control_frames_between() {
    for mask in [None, MASK] {
        let bytes = [
            raw(0x01, mask, b"one "),
            raw(0x89, mask, b"ping"),
            raw(0x00, mask, b""),
            raw(0x8a, mask, b"pong"),
            raw(0x80, mask, b"two"),
            raw(0x82, mask, b"binary"),
            writer::close(mask.map_or(Sender::Server, |mask| Sender::Client { mask }), 4001, "why"),
        ]
        .concat();
        let (found, frames, between) = seen(&bytes, &[], ALL);
        assert!(between && frames == 7);
        assert_eq!(found, ["true one two", "true binary", "close Some(4001) why"]);
        let text_only = seen(&bytes, &[], Interest { binary: false, ..ALL }).0;
        assert_eq!(text_only, ["true one two", "close Some(4001) why"]);
    }
}

#[test]
fn a_message_of_which_nothing_is_wanted_is_not_kept() {
    let interest = Interest { wants: |text| text.starts_with(b"yes"), ..ALL };
    for mask in [None, MASK] {
        let bytes = [raw(0x01, mask, b"ye"), raw(0x80, mask, b"s"), raw(0x81, mask, b"no")].concat();
        assert_eq!(seen(&bytes, &[], interest).0, ["true yes"]);
    }
    let mut reader = MessageReader::new(interest);
    let frame = raw(0x81, MASK, "no".repeat(40_000).as_bytes());
    reader.read_frame(&frame[..70_000], &mut |_| {});
    assert!(reader.message.kept.capacity() <= 192);
}

#[test]
fn of_a_long_message_an_outline_is_kept() {
    let text =
        format!(r#"{{"type":"response.done","x":"{}","usage":{{"total_tokens":7}}}}"#, "x".repeat(200_000));
    for mask in [None, MASK] {
        let found = seen(&raw(0x81, mask, text.as_bytes()), &[1000; 500], ALL).0;
        assert_eq!(found, [r#"false {"type":"response.done","usage":{"total_tokens":7}}"#]);
    }
}

#[test]
fn compressed_messages_are_not_read() {
    let bytes = [raw(0xc1, None, b"deflated"), raw(0x81, None, b"plain")].concat();
    assert_eq!(seen(&bytes, &[], ALL).0, ["unreadable", "true plain"]);
}

#[test]
fn frames_that_may_not_stand_there_are_reported() {
    for (frames, expected) in [
        (&[0x80][..], &["unreadable"][..]),
        (&[0x83], &["unreadable"]),
        (&[0x8b], &["unreadable"]),
        (&[0x01, 0x81], &["unreadable", "true x"]),
        (&[0x01, 0xc0], &["unreadable", "true xx"]),
        (&[0x01, 0x89, 0x80, 0x81], &["true xx", "true x"]),
    ] {
        let bytes: Vec<_> = frames.iter().flat_map(|first| raw(*first, MASK, b"x")).collect();
        assert_eq!(seen(&bytes, &[], ALL).0, expected, "{frames:x?}");
    }
}

#[test]
fn close_frames_of_every_form() {
    let close = |payload: &[u8]| seen(&raw(0x88, MASK, payload), &[1; 8], ALL).0;
    assert_eq!(close(b""), ["close None "]);
    assert_eq!(close(b"\x03"), ["close None "]);
    assert_eq!(close(b"\x03\x6f"), ["close Some(879) "]);
    let long = "é".repeat(100);
    let found = seen(&writer::close(Sender::Server, 1011, &long), &[], ALL).0;
    assert_eq!(found, [format!("close Some(1011) {}", "é".repeat(61))].as_slice());
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0x81, 0x01, 0x00, 0x80, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0x83, 0x08]);
    let payload = prop_oneof!["[ -~]{0,40}", "[a-z]{120,130}", "[a-z]{250,260}"];
    let frame = (first, any::<Option<[u8; 4]>>(), payload);
    vec(frame.prop_map(|(first, mask, payload)| raw(first, mask, payload.as_bytes())), 0..12)
        .prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn any_cut_gives_the_same(bytes in frames(), pieces in vec(1_usize..40, 0..200)) {
        let whole = seen(&bytes, &[], ALL);
        prop_assert_eq!(&seen(&bytes, &pieces, ALL), &whole);
        prop_assert_eq!(&seen(&bytes, &vec![1; bytes.len()], ALL), &whole);
        prop_assert!(whole.2);
    }

    #[test]
    fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..400), pieces in vec(1_usize..40, 0..40)) {
        prop_assert_eq!(seen(&bytes, &pieces, ALL), seen(&bytes, &[], ALL));
    }
}
