//! Notifications to the service manager (systemd's sd_notify(3)). Without a service manager nothing is sent.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time;

use crate::listen::Workers;

/// The longest extension that one notification may ask for: it is sent in microseconds, in 32 bits
/// (`NotifyState::ExtendTimeoutUsec`).
const LONGEST_EXTENSION: Duration = Duration::from_secs(4000);

/// Time beyond the drain's limit: for aborting requests and for the last log lines.
const AFTER_DRAIN: Duration = Duration::from_secs(15);

/// The service manager, if it wants notifications. Clones notify the same one.
#[derive(Clone)]
pub struct Service {
    notify: Arc<Notify>,
    watchdog: Option<Duration>,
    /// Set when the process is stopping, after which no serving state is sent. Locked while sending, since a reload has its own
    /// thread.
    stopping: Arc<Mutex<bool>>,
}

/// Sends states, such as `READY=1`.
type Notify = dyn Fn(&[NotifyState<'_>]) + Send + Sync;

impl Service {
    /// The service manager named by the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_env() -> Self {
        let notify = |states: &[NotifyState<'_>]| {
            if let Err(error) = sd_notify::notify(states) {
                tracing::warn!(%error, "service manager (systemd) could not be notified");
            }
        };
        Self::new(notify, sd_notify::watchdog_enabled())
    }

    /// A service manager that receives each state as a line through `tell`, and expects a watchdog notification within each
    /// `watchdog`.
    pub fn told_by(tell: impl Fn(String) + Send + Sync + 'static, watchdog: Option<Duration>) -> Self {
        let notify =
            move |states: &[NotifyState<'_>]| states.iter().for_each(|state| tell(state.to_string()));
        Self::new(notify, watchdog)
    }

    fn new(notify: impl Fn(&[NotifyState<'_>]) + Send + Sync + 'static, watchdog: Option<Duration>) -> Self {
        Self { notify: Arc::new(notify), watchdog, stopping: Arc::default() }
    }

    /// Reports that connections are accepted from now on.
    pub(super) fn ready(&self, generation: u64) {
        self.serves(&[NotifyState::Ready, NotifyState::Status(&serving(generation))]);
    }

    /// Reports that the configuration is being reloaded. systemd 253 and newer need the time with `Type=notify-reload`.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.serves(&[NotifyState::Reloading, now]),
            Err(_) => self.serves(&[NotifyState::Reloading]),
        }
    }

    /// Reports that the new configuration was rejected and the previous one stays in effect.
    pub(super) fn refused(&self, generation: u64) {
        let status = format!("{}; a newer configuration was rejected, see the log", serving(generation));
        self.serves(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Sends a serving state, unless the process is stopping.
    fn serves(&self, states: &[NotifyState<'_>]) {
        if !*self.stopping.lock().unwrap_or_else(PoisonError::into_inner) {
            (self.notify)(states);
        }
    }

    /// Reports that the drain has begun and may take this long. Reloads are not reported any more.
    pub(super) fn stopping(&self, exchanges: usize, bound: Duration) {
        let status = format!("draining: {exchanges} requests in flight, {} s at most", bound.as_secs());
        let extension = extension(bound.saturating_add(AFTER_DRAIN), LONGEST_EXTENSION);
        let mut stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        *stopping = true;
        (self.notify)(&[NotifyState::Stopping, NotifyState::Status(&status), extension]);
    }

    /// During a drain of `bound`, extends the stop timeout before the last extension runs out, for drains longer than one
    /// extension.
    pub(super) async fn keep_extending(&self, bound: Duration) -> Infallible {
        self.extend(bound.saturating_add(AFTER_DRAIN), LONGEST_EXTENSION).await;
        std::future::pending().await
    }

    async fn extend(&self, mut needed: Duration, longest: Duration) {
        let every = longest / 2;
        while needed > longest {
            time::sleep(every).await;
            needed = needed.saturating_sub(every);
            (self.notify)(&[extension(needed, longest)]);
        }
    }

    /// Sends watchdog notifications while every worker responds. Never returns.
    pub(super) async fn keep_watch(&self, workers: &Workers) -> Infallible {
        let Some(within) = self.watchdog else { return std::future::pending().await };
        // Half of the time, as sd_watchdog_enabled(3) recommends.
        let every = within / 2;
        let mut clock = time::interval(every);
        clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let unresponsive = workers.unresponsive(every).await;
            if unresponsive.is_empty() {
                (self.notify)(&[NotifyState::Watchdog]);
            } else {
                tracing::error!(workers = ?unresponsive, "workers do not respond: watchdog notification withheld");
            }
        }
    }
}

/// An extension counts from the moment in which the manager reads it.
fn extension(needed: Duration, longest: Duration) -> NotifyState<'static> {
    let micros = needed.min(longest).as_micros();
    NotifyState::ExtendTimeoutUsec(u32::try_from(micros).unwrap_or(u32::MAX))
}

fn serving(generation: u64) -> String {
    format!("serving, configuration generation {generation}")
}

/// Without a service manager.
impl Default for Service {
    fn default() -> Self {
        Self::new(|_: &[NotifyState<'_>]| {}, None)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("watchdog", &self.watchdog).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn recording() -> (Service, mpsc::Receiver<String>) {
        let (tell, states) = mpsc::channel();
        let tell = Mutex::new(tell);
        let service = Service::told_by(move |state| _ = tell.lock().unwrap().send(state), None);
        (service, states)
    }

    #[test]
    fn a_reload_is_not_told_of_after_the_drain_has_begun() {
        let (service, states) = recording();
        let reload = service.clone();
        reload.reloading();
        assert_eq!(states.recv().unwrap(), "RELOADING=1");
        while states.try_recv().is_ok() {}
        service.stopping(1, Duration::from_secs(60));
        let stopping = [
            "STOPPING=1",
            "STATUS=draining: 1 requests in flight, 60 s at most",
            "EXTEND_TIMEOUT_USEC=75000000",
        ];
        assert_eq!(states.try_iter().collect::<Vec<_>>(), stopping);
        reload.ready(2);
        reload.reloading();
        reload.refused(2);
        assert_eq!(states.try_iter().next(), None);
    }

    #[tokio::test]
    async fn a_drain_that_takes_longer_than_can_be_asked_for_asks_again() {
        let (service, states) = recording();
        service.stopping(0, Duration::from_secs(7200));
        assert_eq!(states.try_iter().last().unwrap(), "EXTEND_TIMEOUT_USEC=4000000000");
        // Each before half of the one before is over, and the last for what is left.
        service.extend(Duration::from_millis(50), Duration::from_millis(20)).await;
        let extensions = ["20000", "20000", "20000"].map(|micros| format!("EXTEND_TIMEOUT_USEC={micros}"));
        assert_eq!(states.try_iter().collect::<Vec<_>>(), extensions);
        service.extend(Duration::from_millis(25), Duration::from_millis(20)).await;
        assert_eq!(states.try_iter().collect::<Vec<_>>(), ["EXTEND_TIMEOUT_USEC=15000"]);
    }
}
