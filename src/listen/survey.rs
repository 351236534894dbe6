//! A look at all open exchanges of a worker: the age of the oldest, and which streams are silent.
//!
//! It runs on the worker, because exchanges do not leave their thread, but in parts: between two of them the worker does its other work.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::yield_now;

use crate::body::{ConnectionState, ExchangeHandle};

/// Exchanges that are looked at before the worker does something else: some 10 µs.
const PART: usize = 256;

/// Spans of silence that are counted separately.
pub const SILENCES: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(120)];

/// What was seen, by route; `None`: the route is not known yet. At most as many entries as there are routes in the configurations of open
/// exchanges.
#[derive(Debug, Default, Clone)]
pub struct Survey(pub BTreeMap<Option<Arc<str>>, RouteSurvey>);

/// What was seen of one route.
#[derive(Debug, Default, Clone, Copy)]
pub struct RouteSurvey {
    /// Age of the oldest open exchange.
    pub oldest: Duration,
    /// Streams that have been silent for longer than each of [`SILENCES`].
    pub silent: [u64; SILENCES.len()],
}

impl Survey {
    /// Looks at the exchanges of these connections.
    pub(super) async fn of(connections: Vec<Rc<ConnectionState>>) -> Self {
        let mut survey = Self::default();
        let mut looked_at = 0;
        for connection in connections {
            let now = Instant::now();
            for handle in connection.handles() {
                survey.look(&handle, now);
                looked_at += 1;
            }
            if looked_at >= PART {
                looked_at = 0;
                yield_now().await;
            }
        }
        survey
    }

    /// Adds what was seen on another worker.
    pub fn merge(&mut self, other: &Self) {
        for (route, seen) in &other.0 {
            let own = self.0.entry(route.clone()).or_default();
            own.oldest = own.oldest.max(seen.oldest);
            own.silent.iter_mut().zip(seen.silent).for_each(|(own, more)| *own += more);
        }
    }

    fn look(&mut self, handle: &ExchangeHandle, now: Instant) {
        let silence = handle.status.silence(now);
        handle.status.with_about(|about| {
            let seen = match self.0.get_mut(&about.route) {
                Some(seen) => seen,
                None => self.0.entry(about.route.clone()).or_default(),
            };
            seen.oldest = seen.oldest.max(now.saturating_duration_since(about.start));
            let is_longer = |span: &Duration| silence.is_some_and(|silence| silence >= *span);
            for (count, span) in seen.silent.iter_mut().zip(&SILENCES) {
                *count += u64::from(is_longer(span));
            }
        });
    }
}
