//! The rounds of attempts of one request: what waits between them, and the late attempt that goes on meanwhile.

use std::time::{Duration, Instant};

use super::{
    attempt::{self, AttemptHead},
    available::NextAvailable,
    candidate::Candidate,
    candidates::{Candidates, Waited},
    late::{self, LateAttempt},
    schedule::RetrySchedule,
};
use crate::{exchange::Exchange, fault::Phase, proxy::intake::PreparedRequest, upstream::KeyPermit};

/// The rounds of attempts of one request. In each round every candidate that is available is tried once.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) candidates: Candidates,
    pub(super) schedule: RetrySchedule,
    /// An attempt that goes on beside the running one, because its head is late.
    pub(super) late: Option<Box<LateAttempt>>,
    /// Whether an attempt has failed.
    pub(super) has_failed: bool,
}

impl Rounds {
    /// Before the first attempt.
    pub(super) fn new(candidates: Candidates, schedule: RetrySchedule) -> Self {
        Self { candidates, schedule, late: None, has_failed: false }
    }

    /// The late attempt, if it has arrived.
    pub(super) fn late_answer(
        &mut self,
        exchange: &mut Exchange,
        request: &PreparedRequest,
    ) -> Option<AttemptHead> {
        let late = self.late.take_if(|late| late.has_arrived())?;
        let late = late.into_head(exchange)?;
        attempt::announce(exchange, request, &late.candidate);
        Some(late)
    }

    /// Waits for the late attempt, because nothing else is left to try. False: there is none with a result to use.
    pub(super) async fn wait_for_late(&mut self, exchange: &Exchange) -> bool {
        let Some(late) = &mut self.late else { return false };
        exchange.handle.status.enter(Phase::FirstByte);
        late.decided().await;
        if !late.has_arrived() {
            self.late = None;
        }
        self.late.is_some()
    }

    /// Waits until a candidate may be available again, or the late attempt is answered. If the request had to wait for a key, that is a candidate
    /// with this key.
    ///
    /// # Errors
    /// No attempt can begin in the time that is left. The next time at which a candidate becomes available.
    pub(super) async fn next_round(
        &mut self,
        exchange: &Exchange,
    ) -> Result<Option<Box<Candidate>>, Option<NextAvailable>> {
        match self.wait_for_key(exchange).await {
            Waited::Key(step, key) => {
                if let Some(candidate) = self.with_key(exchange, step, key).await {
                    return Ok(Some(candidate));
                }
            }
            Waited::LookAgain | Waited::RoundOver => return Ok(None),
            Waited::TooLate => {}
        }
        let now = Instant::now();
        let available = self.candidates.next_available(now);
        self.candidates.enqueue(now);
        let until = self.end_of_round(available, now).ok_or(available)?;
        self.wait(exchange, &[], until, Some(until)).await;
        Ok(None)
    }

    /// Waits for a key in the queues of all upstreams that have one in time, and for what becomes available meanwhile.
    async fn wait_for_key(&mut self, exchange: &Exchange) -> Waited {
        let now = Instant::now();
        let Some(latest) = self.schedule.latest_turn(Duration::ZERO, now) else { return Waited::TooLate };
        let steps = self.candidates.steps_without_key(now, latest);
        if steps.is_empty() {
            return Waited::TooLate;
        }
        self.candidates.enqueue(now);
        let other = self.candidates.next_with_key(now);
        let until = self.end_of_round(other, now);
        self.wait(exchange, &steps, latest, until).await
    }

    /// The candidate with this key of that step, perhaps after a wait in the queues of its targets. `None`: no target can be used in time.
    async fn with_key(&mut self, exchange: &Exchange, step: usize, key: KeyPermit) -> Option<Box<Candidate>> {
        let now = Instant::now();
        let key = match self.candidates.with_key(step, key, now) {
            Ok(candidate) => return Some(candidate),
            Err(key) => key,
        };
        self.candidates.enqueue_with_key(step, &key, now);
        if !self.candidates.is_queued() {
            return None;
        }
        let latest = self.schedule.latest_turn(Duration::ZERO, now)?;
        self.wait(exchange, &[], latest, Some(latest)).await;
        self.candidates.with_key(step, key, Instant::now()).ok()
    }

    /// As [`Candidates::wait`], noted as backoff.
    async fn wait(
        &mut self,
        exchange: &Exchange,
        steps: &[NextAvailable],
        latest: Instant,
        until: Option<Instant>,
    ) -> Waited {
        let wait = async |own: &mut Self| own.candidates.wait(steps, latest, until).await;
        // A late attempt that was answered is looked at next.
        self.during_backoff(exchange, wait).await.unwrap_or(Waited::LookAgain)
    }

    /// When the next round begins, if no queue grants a permit before. A request that only waits in queues does not back off: it waits there as
    /// long as it may. `None`: there is no next round.
    fn end_of_round(&mut self, available: Option<NextAvailable>, now: Instant) -> Option<Instant> {
        if !self.has_failed && self.candidates.is_queued() {
            return self.schedule.latest_turn(Duration::ZERO, now);
        }
        self.schedule.pause(available, self.has_failed, now).map(|pause| now + pause)
    }

    /// Waits for `pause`. The candidate that failed last, unless it is not available any more, or the late attempt was answered.
    pub(super) async fn wait_for_same(
        &mut self,
        exchange: &Exchange,
        pause: Duration,
    ) -> Option<Box<Candidate>> {
        self.during_backoff(exchange, async |_: &mut Self| tokio::time::sleep(pause).await).await?;
        let again = self.candidates.again(Instant::now());
        if again.is_none() {
            self.schedule.next_candidate();
        }
        again
    }

    /// Waits for `wait`; `None`: the late attempt was answered first. An exchange that ends meanwhile ends in this phase; a failure that is reported
    /// later keeps its own.
    async fn during_backoff<T>(
        &mut self,
        exchange: &Exchange,
        wait: impl AsyncFnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let status = &exchange.handle.status;
        let failed_in = status.phase();
        status.enter(Phase::Backoff);
        let start = Instant::now();
        let mut late = self.late.take();
        let result = late::beside(&mut late, wait(self)).await;
        self.late = late;
        let waited = start.elapsed();
        self.schedule.note_wait(waited);
        status.add_wait(waited);
        let why = if self.has_failed { "backoff" } else { "busy" };
        exchange.metrics().waited(exchange.record.route.as_ref(), why, waited);
        status.enter(failed_in);
        result
    }
}
