//! The time of a log line.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

use time::OffsetDateTime;

/// `2026-01-31T23:59:59.123Z`
pub(super) type Stamp = [u8; 24];

thread_local! {
    /// The last second this thread wrote, formatted: under load nearly all lines share it.
    static LAST: Cell<(u64, Stamp)> = const { Cell::new((0, *b"1970-01-01T00:00:00.000Z")) };
}

/// RFC 3339 in UTC with milliseconds. A time before 1970, or past the year 9999, is written as 1970's first.
pub(super) fn stamp(time: SystemTime) -> Stamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, mut stamp) = LAST.get();
    if second != since.as_secs() {
        stamp = whole_second(since.as_secs());
        LAST.set((since.as_secs(), stamp));
    }
    let [.., hundreds, tens, ones, _] = &mut stamp;
    [*hundreds, *tens, *ones] = digits(since.subsec_millis());
    stamp
}

fn whole_second(second: u64) -> Stamp {
    let time = i64::try_from(second)
        .ok()
        .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut stamp = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        time.year().unsigned_abs() / 100,
        time.year().unsigned_abs(),
        u32::from(u8::from(time.month())),
        u32::from(time.day()),
        u32::from(time.hour()),
        u32::from(time.minute()),
        u32::from(time.second()),
    ];
    for (at, number) in [0, 2, 5, 8, 11, 14, 17].into_iter().zip(parts) {
        let [_, digits @ ..] = digits(number);
        if let Some(place) = stamp.get_mut(at..at + 2) {
            place.copy_from_slice(&digits);
        }
    }
    stamp
}

/// The last three decimal digits.
fn digits(number: u32) -> [u8; 3] {
    [number / 100, number / 10, number].map(|n| b'0' + (n % 10) as u8)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn written(millis: u64) -> String {
        String::from_utf8(stamp(UNIX_EPOCH + Duration::from_millis(millis)).to_vec()).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(written(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(stamp(UNIX_EPOCH - Duration::from_secs(1)), *b"1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn agrees_with_the_time_crate(moments in prop::collection::vec(0_u64..253_402_300_799_000, 1..4)) {
            for millis in moments {
                let time = OffsetDateTime::from(UNIX_EPOCH + Duration::from_millis(millis - millis % 1000));
                let whole = time.format(&Rfc3339).unwrap();
                let expected = format!("{}.{:03}Z", whole.trim_end_matches('Z'), millis % 1000);
                prop_assert_eq!(written(millis), expected);
            }
        }
    }
}
