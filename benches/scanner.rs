//! What it costs to look at a stream as it passes: the scanner alone, and with the reader of chat chunks behind it.
//!
//! Run with `cargo bench --bench scanner`. Each line is a whole stream, so bytes per second are of the stream's bytes.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use sluicegate::openai::{Dialect, StreamReader};
use sluicegate::sse::Scanner;

/// Events in one stream.
const EVENTS: usize = 1024;

/// How a stream's events lie in its chunks.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Each chunk is one event.
    OneEvent,
    /// Each chunk is 32 events.
    ManyEvents,
    /// Each event lies in two chunks.
    SplitEvent,
}

const CUTS: [Cut; 3] = [Cut::OneEvent, Cut::ManyEvents, Cut::SplitEvent];

fn main() {
    divan::main();
}

#[divan::bench(args = CUTS)]
fn scanner(bencher: Bencher<'_, '_>, cut: Cut) {
    let chunks = chunks(cut);
    bencher.counter(bytes(&chunks)).bench(|| {
        let mut scanner = Scanner::new();
        for chunk in &chunks {
            scanner.scan(black_box(chunk), &mut |event| {
                black_box(event);
            });
        }
        scanner.events()
    });
}

#[divan::bench(args = CUTS)]
fn scanner_and_reader(bencher: Bencher<'_, '_>, cut: Cut) {
    let chunks = chunks(cut);
    bencher.counter(bytes(&chunks)).bench(|| {
        let (mut scanner, mut reader) = (Scanner::new(), StreamReader::new(Dialect::CHAT));
        for chunk in &chunks {
            scanner.scan(black_box(chunk), &mut |event| {
                black_box(reader.event(&event));
            });
        }
        reader.counts()
    });
}

fn chunks(cut: Cut) -> Vec<Vec<u8>> {
    let events: Vec<Vec<u8>> = (0..EVENTS).map(event).collect();
    match cut {
        Cut::OneEvent => events,
        Cut::ManyEvents => events.chunks(32).map(<[_]>::concat).collect(),
        Cut::SplitEvent => {
            // In the middle of its data, then in the middle of its end.
            let halves = |(number, event): (usize, &Vec<u8>)| {
                let (first, second) = event.split_at(if number % 2 == 0 { 200 } else { event.len() - 1 });
                [first.to_vec(), second.to_vec()]
            };
            events.iter().enumerate().flat_map(halves).collect()
        }
    }
}

fn event(number: usize) -> Vec<u8> {
    format!(
        "data: {{\"id\":\"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG\",\"object\":\"chat.completion.chunk\",\
         \"created\":1754550000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{number}\"}},\
         \"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
    .into_bytes()
}

fn bytes(chunks: &[Vec<u8>]) -> BytesCount {
    BytesCount::new(chunks.iter().map(Vec::len).sum::<usize>())
}
