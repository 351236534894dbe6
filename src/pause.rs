//! Notices that a thread did not run for a while, and extends timeouts by that time.
//!
//! A process is stopped (SIGSTOP), its cgroup is frozen, its virtual machine is suspended, or other processes take the whole CPU. When
//! it runs again, timers have expired although the sockets were not read meanwhile: epoll_wait(2) even returns with EINTR and without
//! events after SIGCONT (signal(7)). A timeout that is applied then blames a peer that may have sent everything.
//!
//! Each thread that serves runs [`watch`], a timer that notes that the thread runs. A gap of more than [`GAP`] between two notes is a
//! pause. Code that finds a deadline passed asks [`deadline`] or [`lost_since`] before acting on it: these notice a pause even before the
//! timer of [`watch`] has run again. On threads without [`watch`] there are no pauses.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt;

/// A thread that did not run for longer than this was paused.
pub const GAP: Duration = Duration::from_secs(1);

/// The time between two notes that a thread runs.
const TICK: Duration = Duration::from_millis(250);

/// How much longer than the pause itself a timeout is extended, so that sockets are read before it is applied.
const GRACE: Duration = Duration::from_secs(1);

/// Pauses that a thread remembers. A timeout that began before all of them is extended by these only.
const REMEMBERED: usize = 16;

/// The timeout is over, pauses not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// The timer for hyper's own timeouts, such as those of HTTP/2's PING.
#[derive(Debug, Clone, Copy)]
pub struct Timer;

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep {
            start: Instant::now(),
            limit: duration,
            sleep: Box::pin(tokio::time::sleep(duration)),
        })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// Ends `limit` after `start`, pauses not counted.
struct Sleep {
    start: Instant,
    limit: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let left = deadline(self.start, self.limit).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }
}

/// A time during which the thread did not run.
#[derive(Debug, Clone, Copy)]
struct Pause {
    begin: Instant,
    end: Instant,
}

/// What one thread knows of its pauses.
#[derive(Debug, Default)]
struct Pauses {
    /// When the thread last ran, as far as it was noted; `None` while nobody watches.
    ran: Cell<Option<Instant>>,
    /// At most [`REMEMBERED`], the latest last.
    known: RefCell<VecDeque<Pause>>,
}

thread_local! {
    static PAUSES: Pauses = Pauses::default();
}

/// Watches the current thread for pauses until this future is dropped. It never ends by itself.
pub async fn watch() {
    let _unwatched = Watching;
    loop {
        PAUSES.with(|pauses| pauses.note(Instant::now()));
        tokio::time::sleep(TICK).await;
    }
}

/// How much of the time since `start` the current thread was paused, with some time on top to read the sockets; zero without a pause.
pub fn lost_since(start: Instant) -> Duration {
    PAUSES.with(|pauses| {
        pauses.note(Instant::now());
        pauses.lost_since(start)
    })
}

/// When something that began at `start` and may take `limit` is late. The pauses of the current thread do not count. Meant to be called
/// when `start + limit` has passed, because only then a pause can make a difference.
pub fn deadline(start: Instant, limit: Duration) -> Instant {
    start + limit + lost_since(start)
}

/// Waits for `future`, for at most `limit` without the pauses of the current thread.
///
/// # Errors
/// [`Elapsed`]: it took longer.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_from(tokio::time::Instant::now().into_std(), limit, future).await
}

/// Waits for `future` until `limit` has passed since `start`, the pauses of the current thread not counted.
///
/// # Errors
/// [`Elapsed`]: it took longer.
pub async fn timeout_from<F: Future>(
    start: Instant,
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut until = start + limit;
    loop {
        if let Ok(done) = tokio::time::timeout_at(until.into(), future.as_mut()).await {
            return Ok(done);
        }
        let extended = deadline(start, limit);
        if extended <= until {
            return Err(Elapsed);
        }
        until = extended;
    }
}

/// Ends the watch when it is dropped: a thread that no longer notes that it runs is not paused.
struct Watching;

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = PAUSES.try_with(|pauses| pauses.ran.set(None));
    }
}

impl Pauses {
    /// Notes that the thread runs at `now`.
    fn note(&self, now: Instant) {
        let Some(ran) = self.ran.replace(Some(now)) else { return };
        if now.saturating_duration_since(ran) > GAP {
            self.add(Pause { begin: ran, end: now });
        }
    }

    fn add(&self, pause: Pause) {
        let span = pause.end - pause.begin;
        tracing::warn!(?span, "the process was paused; timeouts are extended by that time");
        let mut known = self.known.borrow_mut();
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back(pause);
    }

    fn lost_since(&self, start: Instant) -> Duration {
        let known = self.known.borrow();
        let since = known.iter().rev().take_while(|pause| pause.end > start);
        since.map(|pause| pause.end - pause.begin.max(start) + GRACE).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Pauses of a thread that was seen to run at these seconds after `start`.
    fn ran_at(start: Instant, seconds: &[f64]) -> Pauses {
        let pauses = Pauses::default();
        pauses.ran.set(Some(start));
        seconds.iter().for_each(|at| pauses.note(start + Duration::from_secs_f64(*at)));
        pauses
    }

    #[test]
    fn a_gap_of_more_than_a_second_is_a_pause_and_a_shorter_one_is_not() {
        let start = Instant::now();
        assert_eq!(ran_at(start, &[0.25, 1.2, 2.1]).lost_since(start), Duration::ZERO);
        assert_eq!(ran_at(start, &[0.5, 6.5]).lost_since(start), 6 * SECOND + GRACE);
    }

    #[test]
    fn only_the_part_of_a_pause_after_the_start_counts() {
        let start = Instant::now();
        let pauses = ran_at(start, &[5.0, 5.5, 15.5]);
        assert_eq!(pauses.lost_since(start), 15 * SECOND + 2 * GRACE, "both");
        assert_eq!(pauses.lost_since(start + 5 * SECOND), 10 * SECOND + GRACE, "the second");
        assert_eq!(pauses.lost_since(start + 10 * SECOND), Duration::from_millis(5500) + GRACE, "part of it");
        assert_eq!(pauses.lost_since(start + 16 * SECOND), Duration::ZERO, "neither");
    }

    #[test]
    fn a_thread_that_nobody_watches_has_no_pauses() {
        let pauses = Pauses::default();
        let start = Instant::now();
        pauses.note(start);
        assert_eq!(pauses.lost_since(start), Duration::ZERO);
        pauses.ran.set(None);
        pauses.note(start + 100 * SECOND);
        assert_eq!(pauses.lost_since(start), Duration::ZERO);
    }

    #[test]
    fn the_number_of_known_pauses_is_bounded() {
        let start = Instant::now();
        let times: Vec<f64> = (1..100).map(|n| f64::from(n) * 2.0).collect();
        assert_eq!(ran_at(start, &times).known.borrow().len(), REMEMBERED);
    }

    /// The thread sleeps, as it does when its process is stopped: it reads no sockets and runs no timers.
    #[tokio::test(flavor = "current_thread")]
    async fn a_timeout_that_ran_out_during_a_pause_is_extended() {
        let watched = std::pin::pin!(watch());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waited = async {
            let waited = timeout(Duration::from_millis(300), receiver);
            let paused = async {
                std::thread::sleep(GAP + GAP / 2);
                // What was sent meanwhile is read a little later than the timers fire.
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.send(()).unwrap();
            };
            tokio::join!(waited, paused).0
        };
        tokio::select! {
            biased;
            () = watched => unreachable!("it never ends"),
            waited = waited => assert_eq!(waited, Ok(Ok(()))),
        }
        let never = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(never, Err(Elapsed), "there was no further pause");
    }
}
