//! How many requests are left in a drain, shown to the person at the terminal who waits for its end.

use std::{
    convert::Infallible,
    io::{self, Write},
    time::Duration,
};

use tokio::time::{self, Instant, MissedTickBehavior};

/// Pause between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// A line of the terminal that is written again and again; cleared when dropped.
pub(super) struct DrainDisplay<W: Write> {
    terminal: W,
    shown: String,
}

impl DrainDisplay<io::Stderr> {
    pub(super) fn on_stderr() -> Self {
        Self::new(io::stderr())
    }
}

impl<W: Write> DrainDisplay<W> {
    fn new(terminal: W) -> Self {
        Self { terminal, shown: String::new() }
    }

    /// Shows how many requests are left, as `left` counts them, and when they are aborted: `bound` from now. Never returns.
    pub(super) async fn follow(mut self, bound: Duration, left: impl Fn() -> usize) -> Infallible {
        let end = Instant::now() + bound;
        let mut clock = time::interval(EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            self.show(line(left(), end.saturating_duration_since(Instant::now())));
        }
    }

    /// The cursor goes back to the line's beginning, so that a log line replaces the text.
    fn show(&mut self, line: String) {
        if line != self.shown {
            self.write(&format!("\r\x1b[K{line}\r"));
            self.shown = line;
        }
    }

    /// A terminal that is gone reads nothing; the drain goes on.
    fn write(&mut self, text: &str) {
        let _nobody_reads = self.terminal.write_all(text.as_bytes()).and_then(|()| self.terminal.flush());
    }
}

impl<W: Write> Drop for DrainDisplay<W> {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            self.write("\r\x1b[K");
        }
    }
}

fn line(left: usize, time: Duration) -> String {
    let requests = if left == 1 { "request" } else { "requests" };
    format!("draining: {left} {requests} left, at most {} s; Ctrl-C aborts them now", time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Rc<RefCell<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_number_is_shown_when_it_changes_and_cleared_at_the_end() {
        let screen = Screen::default();
        let shown = || String::from_utf8(std::mem::take(&mut *screen.0.borrow_mut())).expect("text");
        let mut display = DrainDisplay::new(screen.clone());
        for left in [2, 2, 1] {
            display.show(line(left, Duration::from_secs(60)));
        }
        assert_eq!(
            shown(),
            "\r\x1b[Kdraining: 2 requests left, at most 60 s; Ctrl-C aborts them now\r\
             \r\x1b[Kdraining: 1 request left, at most 60 s; Ctrl-C aborts them now\r"
        );
        drop(display);
        assert_eq!(shown(), "\r\x1b[K");
    }
}
