//! What the service manager is told, as systemd wants it (sd_notify(3)); nothing where nobody listens.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use sd_notify::NotifyState;

use crate::listen::Workers;

/// The longest that can be asked for at once: the manager counts microseconds in 32 bits.
const LONGEST_EXTENSION: Duration = Duration::from_secs(4000);

/// Beyond the drain's own bounds: for cutting, and for the last log lines.
const AFTER_DRAIN: Duration = Duration::from_secs(15);

/// Who started this process, if it wants to know how it is. Clones tell the same one.
#[derive(Clone)]
pub struct Service {
    notify: Arc<Notify>,
    watchdog: Option<Duration>,
}

/// Takes a state's lines, such as `READY=1`.
type Notify = dyn Fn(&[NotifyState<'_>]) + Send + Sync;

impl Service {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_env() -> Self {
        let notify = |states: &[NotifyState<'_>]| {
            if let Err(error) = sd_notify::notify(states) {
                tracing::warn!(%error, "the service manager cannot be told");
            }
        };
        Self { notify: Arc::new(notify), watchdog: sd_notify::watchdog_enabled() }
    }

    /// One that is told by `tell`, a line at a time, and wants to hear from us within each `watchdog`.
    pub fn told_by(tell: impl Fn(String) + Send + Sync + 'static, watchdog: Option<Duration>) -> Self {
        let notify =
            move |states: &[NotifyState<'_>]| states.iter().for_each(|state| tell(state.to_string()));
        Self { notify: Arc::new(notify), watchdog }
    }

    /// Connections are accepted from now on.
    pub(super) fn ready(&self, generation: u64) {
        (self.notify)(&[NotifyState::Ready, NotifyState::Status(&serving(generation))]);
    }

    /// The configuration is being read anew. The time is what systemd 253 and newer ask for with `Type=notify-reload`.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => (self.notify)(&[NotifyState::Reloading, now]),
            Err(_) => (self.notify)(&[NotifyState::Reloading]),
        }
    }

    /// It was not taken: what came before goes on.
    pub(super) fn refused(&self, generation: u64) {
        let status = format!("{}; a newer configuration was refused, see the log", serving(generation));
        (self.notify)(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The drain has begun and may take this long.
    pub(super) fn stopping(&self, exchanges: usize, bound: Duration) {
        let status = format!("draining: {exchanges} exchanges in flight, {} s at most", bound.as_secs());
        let needed = bound.saturating_add(AFTER_DRAIN).min(LONGEST_EXTENSION);
        let extension = NotifyState::ExtendTimeoutUsec(u32::try_from(needed.as_micros()).unwrap_or(u32::MAX));
        (self.notify)(&[NotifyState::Stopping, NotifyState::Status(&status), extension]);
    }

    /// Says that all is well for as long as every worker answers when it is asked to. Never ends.
    pub(super) async fn keep_watch(&self, workers: &Workers) -> Infallible {
        let Some(within) = self.watchdog else { return std::future::pending().await };
        // Half of it, as sd_watchdog_enabled(3) has it: one lost ping is none too many.
        let every = within / 2;
        let mut clock = tokio::time::interval(every);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let silent = workers.silent(every).await;
            if silent.is_empty() {
                (self.notify)(&[NotifyState::Watchdog]);
            } else {
                tracing::error!(workers = ?silent, "workers do not answer: the watchdog is not told that all is well");
            }
        }
    }
}

fn serving(generation: u64) -> String {
    format!("serving, generation {generation} of the configuration")
}

/// Nobody wants to know.
impl Default for Service {
    fn default() -> Self {
        Self { notify: Arc::new(|_: &[NotifyState<'_>]| {}), watchdog: None }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("watchdog", &self.watchdog).finish_non_exhaustive()
    }
}
