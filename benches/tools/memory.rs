//! Shows how much of the caches and of the memory other programs take, and takes some itself, for `benches/load`.
//!
//! - `memory probe` prints a line for each line that it reads: how many nanoseconds one step of a chase through pointers takes, in a buffer
//!   that the last cache of most machines can hold, and in one that it cannot.
//! - `memory neighbour` writes a large buffer over and over, so that others find less of their data in the caches that they share with it.
//!
//! Both end with their stdin, so that none is left behind when the script that started it is gone.

#![expect(clippy::print_stdout, reason = "its output is its result")]

use std::{
    env,
    error::Error,
    hint::black_box,
    io::{BufRead, Read, Write},
    process::exit,
    thread,
    time::Instant,
};

/// Of the buffers of the probe. The first is larger than a core's own caches, the second than a cache that cores share.
const PROBED: [usize; 2] = [8 * MIB, 64 * MIB];
/// Of the neighbour's buffer.
const WRITTEN: usize = 64 * MIB;
const MIB: usize = 1024 * 1024;

/// A reading is the median of so many parts. A part takes less than a millisecond, and another program keeps a core for some, so few parts are
/// interrupted, and those do not count.
const PARTS: usize = 65;
const STEPS: usize = 4096;

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Line {
    /// The index of the line that comes next.
    next: usize,
}

/// A buffer whose lines form one circle in random order, so that no prefetcher knows the next one.
struct Circle {
    lines: Vec<Line>,
    /// Where the last chase ended.
    at: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("probe") => probe(),
        Some("neighbour") => neighbour(),
        _ => Err("usage: memory probe|neighbour".into()),
    }
}

/// Answers each line of stdin with a reading of each buffer, as an array of JSON.
fn probe() -> Result<(), Box<dyn Error>> {
    let mut circles = PROBED.map(Circle::new);
    for line in std::io::stdin().lock().lines() {
        line?;
        let [shared, memory] = circles.each_mut().map(Circle::read);
        println!("[{shared:.3}, {memory:.3}]");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Writes one word of each line of its buffer, until stdin ends.
fn neighbour() -> ! {
    thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        exit(0);
    });
    let mut lines = vec![Line { next: 0 }; WRITTEN / size_of::<Line>()];
    loop {
        for line in &mut lines {
            line.next = line.next.wrapping_add(1);
        }
        black_box(&mut lines);
    }
}

impl Circle {
    /// A circle of so many bytes.
    fn new(bytes: usize) -> Self {
        let count = bytes / size_of::<Line>();
        let mut lines: Vec<Line> = (0..count).map(|next| Line { next }).collect();
        // Sattolo's shuffle, which makes one circle of all; with xorshift, always the same one.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for last in (1..count).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let other = usize::try_from(random % last as u64).unwrap_or_default();
            let (next, other_next) = (lines[last].next, lines[other].next);
            lines[last].next = other_next;
            lines[other].next = next;
        }
        Self { lines, at: 0 }
    }

    /// Nanoseconds of a step.
    fn read(&mut self) -> f64 {
        // A round for nothing, after which a cache holds what it can.
        self.chase(self.lines.len());
        let mut parts = [0.0; PARTS];
        for part in &mut parts {
            let begun = Instant::now();
            self.chase(STEPS);
            *part = begun.elapsed().as_secs_f64() * 1e9 / STEPS as f64;
        }
        parts.sort_unstable_by(f64::total_cmp);
        parts[PARTS / 2]
    }

    fn chase(&mut self, steps: usize) {
        for _ in 0..steps {
            self.at = self.lines[self.at].next;
        }
        black_box(self.at);
    }
}
