//! Formats the time of a log line.

use std::{
    cell::Cell,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A formatted time, such as `2026-01-31T23:59:59.123Z`.
pub(super) type Stamp = [u8; 24];

const EPOCH: Stamp = *b"1970-01-01T00:00:00.000Z";

/// End of the year 9999 in seconds since 1970. RFC 3339 has four digits for a year, and humantime formats no later year.
const YEAR_10000: u64 = 253_402_300_800;

thread_local! {
    /// The formatted second of this thread's last line. Under load nearly all lines share it, and formatting it for each line would
    /// cost four times as much as the rest of this function.
    static LAST: Cell<(u64, Stamp)> = const { Cell::new((0, EPOCH)) };
}

/// Formats `time` as RFC 3339 in UTC with milliseconds. A time before 1970 or after the year 9999 is written as the start of 1970.
pub(super) fn stamp(time: SystemTime) -> Stamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, mut stamp) = LAST.get();
    if second != since.as_secs() {
        stamp = whole_second(since.as_secs());
        LAST.set((since.as_secs(), stamp));
    }
    let millis = since.subsec_millis();
    let [.., hundreds, tens, ones, _] = &mut stamp;
    [*hundreds, *tens, *ones] = [millis / 100, millis / 10, millis].map(|digit| b'0' + (digit % 10) as u8);
    stamp
}

fn whole_second(second: u64) -> Stamp {
    let mut stamp = EPOCH;
    if second >= YEAR_10000 {
        return stamp;
    }
    let time = UNIX_EPOCH + Duration::from_secs(second);
    match write!(&mut stamp[..], "{}", humantime::format_rfc3339_millis(time)) {
        Ok(()) => stamp,
        Err(_) => EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::*;

    fn written(millis: u64) -> String {
        String::from_utf8(stamp(UNIX_EPOCH + Duration::from_millis(millis)).to_vec()).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(written(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(stamp(UNIX_EPOCH - Duration::from_secs(1)), EPOCH);
        assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(YEAR_10000)), EPOCH, "the year 10000");
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
