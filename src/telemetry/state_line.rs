//! The periodic line of state (`log.state`).

use std::time::{Duration, SystemTime};

use super::{
    clock,
    pairs::{Pairs, key},
    queue::Queue,
};
use crate::config::LogFormat;

/// What one line says: what is open now, and what has happened since the last line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StateLine {
    /// Time since the last line.
    pub span: Duration,
    /// Requests in flight.
    pub in_flight: usize,
    /// Open client connections.
    pub connections: usize,
    /// Requests that have ended.
    pub finished: u64,
    /// Of these, those that ended with an error of the gateway, or of an upstream within the response.
    pub failed: u64,
    /// Tokens that upstreams have reported.
    pub tokens_in: u64,
    /// See `tokens_in`.
    pub tokens_out: u64,
    /// Bytes of bodies in memory.
    pub buffered: u64,
}

impl StateLine {
    /// Writes the line to `queue`.
    pub fn write(&self, queue: &Queue, format: LogFormat) {
        let mut line = Vec::new();
        let mut pairs = Pairs::begin(&mut line, format);
        pairs.plain(key!("time"), &clock::stamp(SystemTime::now()));
        pairs.plain(key!("kind"), b"state");
        pairs.millis(key!("span_ms"), self.span);
        pairs.number(key!("in_flight"), self.in_flight as u64);
        pairs.number(key!("connections"), self.connections as u64);
        pairs.number(key!("finished"), self.finished);
        pairs.number(key!("failed"), self.failed);
        pairs.number(key!("tokens_in"), self.tokens_in);
        pairs.number(key!("tokens_out"), self.tokens_out);
        pairs.number(key!("tokens_out_per_s"), self.per_second(self.tokens_out));
        pairs.number(key!("buffered"), self.buffered);
        pairs.end();
        queue.push(&line);
    }

    fn per_second(&self, count: u64) -> u64 {
        let seconds = self.span.as_secs_f64();
        if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::queue::tests::Sink, *};

    #[test]
    fn the_line_has_what_happened_in_its_span() {
        let sink = Sink::default();
        let queue = Queue::start(Box::new(sink.clone()), 1 << 16, LogFormat::Json);
        let line = StateLine {
            span: Duration::from_secs(10),
            in_flight: 3,
            tokens_out: 1234,
            ..StateLine::default()
        };
        line.write(&queue, LogFormat::Json);
        assert!(queue.flush(Duration::from_secs(60)));
        let read: serde_json::Value = serde_json::from_str(&sink.lines()[0]).unwrap();
        assert_eq!((&read["kind"], &read["in_flight"]), (&"state".into(), &3.into()));
        assert_eq!((&read["tokens_out"], &read["tokens_out_per_s"]), (&1234.into(), &123.into()));
        assert_eq!(read["span_ms"], 10_000.0);
    }
}
