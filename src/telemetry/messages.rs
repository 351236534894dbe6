//! The gateway's own messages, formatted like access lines.

use std::{cell::RefCell, error::Error, fmt, fmt::Write as _, time::SystemTime};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::{
    clock,
    pairs::{Pairs, key},
    queue::Queue,
};
use crate::config::LogFormat;

/// Writes each `tracing` event as one line to the queue.
pub(super) struct Messages {
    queue: Queue,
    format: LogFormat,
}

thread_local! {
    /// The buffer of the current line, reused between lines.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Messages {
    pub(super) fn new(queue: Queue, format: LogFormat) -> Self {
        Self { queue, format }
    }

    fn write(&self, event: &Event<'_>, line: &mut Vec<u8>) {
        line.clear();
        let mut pairs = Pairs::begin(line, self.format);
        pairs.plain(key!("time"), &clock::stamp(SystemTime::now()));
        pairs.plain(key!("kind"), b"message");
        pairs.plain(key!("level"), level(*event.metadata().level()));
        pairs.text(key!("target"), event.metadata().target());
        event.record(&mut Fields(&mut pairs));
        pairs.end();
        self.queue.push(line);
    }
}

impl<S: Subscriber> Layer<S> for Messages {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => self.write(event, &mut line),
            // A value logs while it is being formatted.
            Err(_) => self.write(event, &mut Vec::new()),
        });
    }
}

fn level(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"error",
        Level::WARN => b"warn",
        Level::INFO => b"info",
        Level::DEBUG => b"debug",
        Level::TRACE => b"trace",
    }
}

struct Fields<'p, 'b>(&'p mut Pairs<'b>);

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.name(field.name());
        self.0.text_value(value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.name(field.name());
        self.0.flag_value(value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.name(field.name());
        self.0.number_value(value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.name(field.name());
        self.0.number_value(value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.name(field.name());
        self.0.text_value(&format!("{value:?}"));
    }

    /// Writes the error with its causes: no error of this program contains the text of another.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            // Writing to a `String` cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.0.name(field.name());
        self.0.text_value(&text);
    }
}
