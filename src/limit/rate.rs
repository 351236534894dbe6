//! A rate of use, kept by the generic cell rate algorithm (GCRA): so much per span of time, of which a burst may be used at once.
//!
//! The state of one rate is one time, the *theoretical arrival time* (TAT): when everything that was used so far will be paid for, if nothing
//! else is used. The burst is full when the TAT has passed, and empty when it is a burst ahead. Debt is a TAT further ahead. A correction
//! moves the TAT, forwards or back, whenever it comes: there is no window that it has to match.
//!
//! Within any span of length `w`, at most `burst + w × quantity ÷ period` is admitted, whatever the order of the requests. The algorithm is
//! that of ITU-T I.371, appendix I ("virtual scheduling").

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

/// So many units per span of time, with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    quantity: u64,
    burst: u64,
    /// Nanoseconds in which `quantity` is admitted.
    period: u64,
    /// How far ahead of now the TAT may be, in nanoseconds: the time of a whole burst.
    tolerance: i64,
}

impl Rate {
    /// Creates the rate of `quantity` units per `period`, of which `burst` may be used at once. Zero counts as one everywhere: a rate that
    /// admits nothing is not a rate.
    pub fn new(quantity: u64, period: Duration, burst: u64) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut rate = Self { quantity: quantity.max(1), burst: burst.max(1), period, tolerance: 0 };
        let burst_time = rate.time_of(rate.burst);
        // The time of each use is rounded up, so a burst that is used unit by unit takes a little longer than one that is used at once. It fits
        // as well, unless that were more than a millionth longer, which is less than one unit of any burst up to a million.
        let one_by_one = i128::from(rate.time_of(1)) * i128::from(rate.burst);
        let rounding = (one_by_one - i128::from(burst_time)).clamp(0, i128::from(burst_time) / 1_000_000);
        let rounding = i64::try_from(rounding).unwrap_or(i64::MAX);
        rate.tolerance = burst_time.saturating_add(rounding);
        rate
    }

    /// Units per period.
    pub fn quantity(&self) -> u64 {
        self.quantity
    }

    /// The span of time that the quantity is for.
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period)
    }

    /// The most that can be used at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// How far ahead of now the theoretical arrival time may be, in nanoseconds.
    pub(super) fn tolerance(&self) -> i64 {
        self.tolerance
    }

    /// The same rate for a part of it: as many units in a longer time, and a part of the burst. A clock of the whole rate goes on with the
    /// same part of its burst left.
    pub(super) fn part(&self, share: f64) -> Self {
        let burst = (self.burst as f64 * share).floor();
        #[expect(clippy::cast_sign_loss, reason = "a part of a number is not negative")]
        Self::new(self.quantity, self.period().div_f64(share.max(1e-6)), burst as u64)
    }

    /// Nanoseconds in which `units` are admitted, rounded up: what is rounded is never to the advantage of the client.
    pub(super) fn time_of(&self, units: u64) -> i64 {
        // Nearly always in 64 bits, whose division costs a fraction of that of 128.
        if let Some(product) = units.checked_mul(self.period) {
            return i64::try_from(product.div_ceil(self.quantity)).unwrap_or(i64::MAX);
        }
        let time = (u128::from(units) * u128::from(self.period)).div_ceil(u128::from(self.quantity));
        i64::try_from(time).unwrap_or(i64::MAX)
    }

    /// The units that are admitted in `nanos`, rounded down.
    fn units_in(&self, nanos: i64) -> u64 {
        let nanos = nanos.max(0).unsigned_abs();
        if let Some(product) = nanos.checked_mul(self.quantity) {
            return product / self.period;
        }
        let units = u128::from(nanos) * u128::from(self.quantity) / u128::from(self.period);
        u64::try_from(units).unwrap_or(u64::MAX)
    }
}

/// Where the process' clock begins. One for the whole process, because clocks outlive reloads.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A time of the process' monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(i64);

impl Now {
    /// Nanoseconds since the start.
    pub(super) const fn nanos(self) -> i64 {
        self.0
    }

    /// The time `nanos` after the start.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The time of `instant`.
    pub fn of(instant: Instant) -> Self {
        let nanos = instant.saturating_duration_since(*START).as_nanos();
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

/// What one subject has used of a rate. All methods may be called from any thread; none blocks.
#[derive(Debug)]
pub struct Clock {
    /// The theoretical arrival time, in nanoseconds as those of [`Now`].
    arrival: AtomicI64,
}

impl Clock {
    /// Creates a clock of which nothing has been used.
    pub const fn new() -> Self {
        Self { arrival: AtomicI64::new(i64::MIN) }
    }

    /// Uses `units`, or as much as a full burst holds if that is less, and returns how much that was. A request that is larger than the burst
    /// is therefore admitted when the burst is full; what it really used is charged afterwards.
    ///
    /// # Errors
    /// Not so much may be used now: the time until it may, if nobody else uses any.
    pub fn take(&self, rate: &Rate, units: u64, now: Now) -> Result<u64, Duration> {
        let units = units.min(rate.burst);
        let time = rate.time_of(units);
        let mut arrival = self.arrival.load(Ordering::Relaxed);
        loop {
            let next = arrival.max(now.0).saturating_add(time);
            let excess = next.saturating_sub(now.0).saturating_sub(rate.tolerance);
            if excess > 0 {
                return Err(Duration::from_nanos(excess.unsigned_abs()));
            }
            match self.arrival.compare_exchange_weak(arrival, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(units),
                Err(other) => arrival = other,
            }
        }
    }

    /// The time until anything may be used; `None`: something may be now.
    pub fn wait(&self, rate: &Rate, now: Now) -> Option<Duration> {
        self.wait_for(rate, 1, now)
    }

    /// The time until `units` may be used, or a full burst if that is less; `None`: they may be now. With 0 units, it is the time until no more is
    /// owed than a burst.
    pub fn wait_for(&self, rate: &Rate, units: u64, now: Now) -> Option<Duration> {
        let time = rate.time_of(units.min(rate.burst));
        let next = self.arrival.load(Ordering::Relaxed).max(now.0).saturating_add(time);
        let excess = next.saturating_sub(now.0).saturating_sub(rate.tolerance);
        (excess > 0).then(|| Duration::from_nanos(excess.unsigned_abs()))
    }

    /// Charges `units` more, whether or not they are there. What is missing is debt: it delays later requests until it is paid for.
    pub fn charge(&self, rate: &Rate, units: u64, now: Now) {
        let time = rate.time_of(units);
        self.update(|arrival| arrival.max(now.0).saturating_add(time));
    }

    /// Gives back `units` that were taken or charged. The burst never grows beyond itself by that.
    pub fn refund(&self, rate: &Rate, units: u64) {
        let time = rate.time_of(units);
        self.update(|arrival| arrival.saturating_sub(time));
    }

    /// What is left of the rate.
    pub fn level(&self, rate: &Rate, now: Now) -> Level {
        let ahead = self.arrival.load(Ordering::Relaxed).saturating_sub(now.0).max(0);
        let in_debt = ahead > rate.tolerance;
        let remaining = rate.units_in(rate.tolerance.saturating_sub(ahead)).min(rate.burst);
        let debt = rate.units_in(ahead.saturating_sub(rate.tolerance).max(0));
        Level {
            used: rate.burst.saturating_sub(remaining).saturating_add(debt),
            remaining,
            full_in: Duration::from_nanos(ahead.unsigned_abs()),
            in_debt,
        }
    }

    /// The theoretical arrival time, in nanoseconds as those of [`Now`].
    pub(super) fn arrival(&self) -> i64 {
        self.arrival.load(Ordering::Relaxed)
    }

    /// Makes this clock a copy of one that is kept elsewhere.
    pub(super) fn set(&self, arrival: i64) {
        self.arrival.store(arrival, Ordering::Release);
    }

    fn update(&self, next: impl Fn(i64) -> i64) {
        let mut arrival = self.arrival.load(Ordering::Relaxed);
        while let Err(other) =
            self.arrival.compare_exchange_weak(arrival, next(arrival), Ordering::AcqRel, Ordering::Relaxed)
        {
            arrival = other;
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// What is left of a rate at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Units that were used and are not paid for yet: the part of the burst that is not in `remaining`, and what is owed beyond it.
    pub used: u64,
    /// Units that would be admitted now.
    pub remaining: u64,
    /// The time until the burst is full, if nothing else is used.
    pub full_in: Duration,
    /// More was charged than a burst holds.
    pub in_debt: bool,
}

#[cfg(test)]
mod tests;
