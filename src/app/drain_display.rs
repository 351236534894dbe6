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
    use std::{
        cell::{Cell, RefCell},
        rc::Rc,
    };

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

    #[tokio::test(start_paused = true)]
    async fn the_number_is_shown_when_it_changes_and_cleared_at_the_end() {
        let (screen, left) = (Screen::default(), Rc::new(Cell::new(2)));
        let shown = || String::from_utf8(std::mem::take(&mut *screen.0.borrow_mut())).expect("text");
        let counted = Rc::clone(&left);
        let following =
            DrainDisplay::new(screen.clone()).follow(Duration::from_secs(60), move || counted.get());
        let mut following = Box::pin(following);
        let mut wait = async |span| time::timeout(span, following.as_mut()).await.expect_err("never ends");
        wait(Duration::from_millis(1)).await;
        assert_eq!(shown(), "\r\x1b[Kdraining: 2 requests left, at most 60 s; Ctrl-C aborts them now\r");
        left.set(1);
        wait(Duration::from_secs(30)).await;
        let text = shown();
        assert!(
            text.contains("draining: 1 request left, at most 59 s") && text.contains("at most 30 s"),
            "{text:?}"
        );
        drop(following);
        assert_eq!(shown(), "\r\x1b[K");
    }
}
