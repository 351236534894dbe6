//! Calendar periods: what is used per day or per month in a time zone.
//!
//! The period is part of what is counted, so nothing is ever reset: a count that belongs to a period that is over counts for nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, ToSpan, ZonedDateTime, civil::Date, tz::TimeZone};

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalendarUnit {
    /// From midnight to midnight: 23 or 25 hours where the clocks change.
    Day,
    /// From the first midnight of a month to that of the next one.
    Month,
}

/// The periods of a unit in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    unit: CalendarUnit,
    zone: TimeZone,
}

impl Calendar {
    /// Creates the calendar of `unit` in `zone`.
    pub fn new(unit: CalendarUnit, zone: TimeZone) -> Self {
        Self { unit, zone }
    }

    /// What a period is.
    pub fn unit(&self) -> CalendarUnit {
        self.unit
    }

    /// The name of the time zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The unit and the zone, as a name that all gateways agree on.
    pub(super) fn name(&self) -> String {
        let unit = match self.unit {
            CalendarUnit::Day => "day",
            CalendarUnit::Month => "month",
        };
        format!("{unit} {}", self.zone.iana_name().unwrap_or_default())
    }

    /// The period that `now` is in.
    pub fn period(&self, now: Timestamp) -> Period {
        let day = now.to_zoned_datetime(self.zone.clone()).date();
        let first = match self.unit {
            CalendarUnit::Day => day,
            CalendarUnit::Month => day.first_of_month(),
        };
        let next = match self.unit {
            CalendarUnit::Day => first.saturating_add(1.day()),
            CalendarUnit::Month => first.saturating_add(1.month()),
        };
        Period { first, start: self.midnight(first), end: self.midnight(next) }
    }

    /// The first moment of a day. A day whose midnight is skipped by a change of clocks begins after the change.
    fn midnight(&self, day: Date) -> Timestamp {
        day.to_zoned_datetime(self.zone.clone()).as_ref().map_or(Timestamp::MAX, ZonedDateTime::timestamp)
    }
}

/// One day or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    first: Date,
    start: Timestamp,
    end: Timestamp,
}

impl Period {
    /// The first day, which identifies the period within its calendar, for example `2026-11-01`.
    pub fn first_day(&self) -> Date {
        self.first
    }

    /// When the period ends, and the next one begins.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// The time until the end.
    pub fn rest(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.end.duration_since(now)).unwrap_or(Duration::ZERO)
    }

    fn contains(&self, now: Timestamp) -> bool {
        self.start <= now && now < self.end
    }
}

/// What one subject has used in the current period.
#[derive(Debug, Default)]
pub struct PeriodCount {
    current: Mutex<Option<Used>>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    period: Period,
    units: u64,
}

impl PeriodCount {
    /// Uses `units`, or what `quantity` leaves if that is less, and returns how much that was, with the period that it belongs to. A request
    /// that may need more than what is left is therefore admitted as long as anything is left.
    ///
    /// # Errors
    /// Nothing is left: the time until the period ends.
    pub fn take(
        &self,
        calendar: &Calendar,
        quantity: u64,
        units: u64,
        now: Timestamp,
    ) -> Result<(u64, Period), Duration> {
        self.with_current(calendar, now, |used| {
            let left = quantity.saturating_sub(used.units);
            if left == 0 {
                return Err(used.period.rest(now));
            }
            let taken = units.min(left);
            used.units = used.units.saturating_add(taken);
            Ok((taken, used.period))
        })
    }

    /// Charges `units` to the current period, whether or not they are left.
    pub fn charge(&self, calendar: &Calendar, units: u64, now: Timestamp) {
        self.with_current(calendar, now, |used| used.units = used.units.saturating_add(units));
    }

    /// Gives `units` back that were taken in `period`. If it is over, nobody can use them any more.
    pub fn refund(&self, units: u64, period: Period) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = current.as_mut().filter(|used| used.period == period) {
            used.units = used.units.saturating_sub(units);
        }
    }

    /// The units used in the current period, and that period. Changes nothing: a reader whose clock is ahead does not end a period for others.
    pub fn used(&self, calendar: &Calendar, now: Timestamp) -> (u64, Period) {
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Used::at(current, calendar, now);
        (used.units, used.period)
    }

    /// Whether nothing counts as used.
    pub(super) fn is_unused(&self, now: Timestamp) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.is_none_or(|used| used.units == 0 || used.period.end <= now)
    }

    /// Makes this a copy of a count that is kept elsewhere.
    pub(super) fn set(&self, period: Period, units: u64) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Used { period, units });
    }

    fn with_current<T>(&self, calendar: &Calendar, now: Timestamp, change: impl FnOnce(&mut Used) -> T) -> T {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Used::at(*current, calendar, now);
        change(current.insert(used))
    }
}

impl Used {
    /// What `current` is at a time. A clock that is set back does not bring an earlier period back: what was counted since stays counted.
    fn at(current: Option<Self>, calendar: &Calendar, now: Timestamp) -> Self {
        match current {
            Some(used) if used.period.contains(now) || now < used.period.start => used,
            _ => Self { period: calendar.period(now), units: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_follow_the_clocks_of_their_zone() {
        let berlin = Calendar::new(CalendarUnit::Day, TimeZone::get("Europe/Berlin").unwrap());
        // (now, first day, end): winter, summer, and the two days on which the clocks change.
        for (now, first, end) in [
            ("2026-01-15T22:59:59Z", "2026-01-15", "2026-01-15T23:00:00Z"),
            ("2026-01-15T23:00:00Z", "2026-01-16", "2026-01-16T23:00:00Z"),
            ("2026-07-15T21:59:59Z", "2026-07-15", "2026-07-15T22:00:00Z"),
            ("2026-03-29T12:00:00Z", "2026-03-29", "2026-03-29T22:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-25", "2026-10-25T23:00:00Z"),
        ] {
            let period = berlin.period(at(now));
            assert_eq!((period.first_day().to_string(), period.end()), (first.to_owned(), at(end)), "{now}");
        }
        let spring = berlin.period(at("2026-03-29T12:00:00Z"));
        assert_eq!(spring.rest(spring.start), Duration::from_hours(23));
        let autumn = berlin.period(at("2026-10-25T12:00:00Z"));
        assert_eq!(autumn.rest(autumn.start), Duration::from_hours(25));
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let utc = Calendar::new(CalendarUnit::Month, TimeZone::UTC);
        for (now, first, end) in [
            ("2026-02-28T23:59:59Z", "2026-02-01", "2026-03-01T00:00:00Z"),
            ("2028-02-29T00:00:00Z", "2028-02-01", "2028-03-01T00:00:00Z"),
            ("2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01T00:00:00Z"),
        ] {
            let period = utc.period(at(now));
            assert_eq!((period.first_day().to_string(), period.end()), (first.to_owned(), at(end)), "{now}");
        }
        let kiritimati = Calendar::new(CalendarUnit::Month, TimeZone::get("Pacific/Kiritimati").unwrap());
        assert_eq!(kiritimati.period(at("2026-11-30T10:00:00Z")).first_day().to_string(), "2026-12-01");
    }

    #[test]
    fn a_day_without_midnight_begins_after_the_change() {
        // In Santiago the clocks went from 24:00 on 5 September 2026 to 01:00.
        let santiago = Calendar::new(CalendarUnit::Day, TimeZone::get("America/Santiago").unwrap());
        let day = santiago.period(at("2026-09-06T12:00:00Z"));
        assert_eq!((day.start, day.end()), (at("2026-09-06T04:00:00Z"), at("2026-09-07T03:00:00Z")));
    }

    #[test]
    fn a_period_that_is_used_up_admits_nothing_until_the_next_one() {
        let (calendar, count) = (Calendar::new(CalendarUnit::Day, TimeZone::UTC), PeriodCount::default());
        let now = at("2026-11-28T22:00:00Z");
        assert_eq!(count.take(&calendar, 100, 60, now).map(|(taken, _)| taken), Ok(60));
        assert_eq!(count.take(&calendar, 100, 60, now).map(|(taken, _)| taken), Ok(40));
        assert_eq!(count.take(&calendar, 100, 1, now), Err(Duration::from_hours(2)));
        let tomorrow = at("2026-11-29T00:00:00Z");
        assert_eq!(count.take(&calendar, 100, 60, tomorrow).map(|(taken, _)| taken), Ok(60));
    }

    #[test]
    fn a_refund_belongs_to_its_period() {
        let (calendar, count) = (Calendar::new(CalendarUnit::Day, TimeZone::UTC), PeriodCount::default());
        let (today, tomorrow) = (at("2026-11-28T22:00:00Z"), at("2026-11-29T01:00:00Z"));
        let (_, period) = count.take(&calendar, 100, 50, today).unwrap();
        count.refund(20, period);
        assert_eq!(count.used(&calendar, today).0, 30);
        count.charge(&calendar, 10, tomorrow);
        count.refund(30, period);
        assert_eq!(count.used(&calendar, tomorrow).0, 10);
    }

    #[test]
    fn reading_does_not_move_a_period_forward() {
        let (calendar, count) = (Calendar::new(CalendarUnit::Day, TimeZone::UTC), PeriodCount::default());
        let (today, tomorrow) = (at("2026-11-28T23:59:58Z"), at("2026-11-29T00:00:01Z"));
        let (_, period) = count.take(&calendar, 100, 100, today).unwrap();
        assert_eq!(count.used(&calendar, tomorrow).0, 0);
        // By another clock the day is not over.
        assert_eq!(count.used(&calendar, today), (100, period));
        assert!(count.take(&calendar, 100, 1, today).is_err());
        count.refund(30, period);
        assert_eq!(count.used(&calendar, today).0, 70);
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nothing() {
        let (calendar, count) = (Calendar::new(CalendarUnit::Day, TimeZone::UTC), PeriodCount::default());
        count.take(&calendar, 100, 100, at("2026-11-29T00:00:01Z")).unwrap();
        assert!(count.take(&calendar, 100, 1, at("2026-11-28T23:59:58Z")).is_err());
        assert_eq!(count.used(&calendar, at("2026-11-29T00:00:03Z")).0, 100);
    }
}
