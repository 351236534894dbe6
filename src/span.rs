//! Time spans as people write them: `"5s"`, `"250ms"`, `"1m 30s"`. The one grammar for them in the program: of the configuration, of
//! `x-sluicegate-timeout`, and of the simulator.

use std::time::Duration;

/// Milliseconds in each unit.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Why a text is not a time span. Does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpan {
    /// Nothing but spaces, or not even those.
    #[error("is empty, but a time span is expected")]
    Empty,
    /// It does not begin with a digit.
    #[error("is not a time span")]
    NotASpan,
    /// A number is not followed by letters.
    #[error("has a number without a unit of time, as in 5s")]
    NoUnit,
    /// The letters after a number are none of ms, s, m, h and d.
    #[error("has an unknown unit of time")]
    UnknownUnit,
    /// More milliseconds than 64 bits hold.
    #[error("is a time span that is too long to be counted")]
    TooLong,
}

/// Reads a time span: whole numbers with a unit each, added up.
///
/// # Errors
/// The text is not a time span.
pub fn parse(text: &str) -> Result<Duration, InvalidSpan> {
    let mut rest = text.trim();
    let mut millis = 0_u64;
    if rest.is_empty() {
        return Err(InvalidSpan::Empty);
    }
    while !rest.is_empty() {
        let Term { amount, unit, after } = part(rest)?;
        let more = amount.checked_mul(unit).ok_or(InvalidSpan::TooLong)?;
        millis = millis.checked_add(more).ok_or(InvalidSpan::TooLong)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// A time span as it would be written, in the largest unit that needs no fraction.
#[must_use]
pub fn written(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let fits = UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}

/// A number, the milliseconds of its unit, and the rest of the text.
struct Term<'t> {
    amount: u64,
    unit: u64,
    after: &'t str,
}

fn part(text: &str) -> Result<Term<'_>, InvalidSpan> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(InvalidSpan::NotASpan);
    }
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (name, after) = rest.split_at(letters);
    if name.is_empty() {
        return Err(InvalidSpan::NoUnit);
    }
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name).ok_or(InvalidSpan::UnknownUnit)?;
    let amount = number.parse().map_err(|_| InvalidSpan::TooLong)?;
    Ok(Term { amount, unit: *unit, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        let millis = |text| parse(text).map(|span| span.as_millis());
        assert_eq!(millis("250ms"), Ok(250));
        assert_eq!(millis("5s"), Ok(5000));
        assert_eq!(millis("1m 30s"), Ok(90_000));
        assert_eq!(millis("1m30s"), Ok(90_000));
        assert_eq!(millis("2h"), Ok(7_200_000));
        assert_eq!(millis("1d"), Ok(86_400_000));
        assert_eq!(millis("0s"), Ok(0));
    }

    #[test]
    fn what_is_not_a_span_says_why() {
        let why = |text| parse(text).expect_err(text).to_string();
        assert!(why("5").contains("without a unit"));
        assert!(why("1m 30").contains("without a unit"));
        assert!(why("5y").contains("unknown unit"));
        assert!(why("off").contains("not a time span"));
        assert!(why("1.5s").contains("without a unit"));
        assert!(why("").contains("empty"));
        assert!(why("-1s").contains("not a time span"));
        assert!(why("99999999999999999999s").contains("too long"));
        assert!(why("18446744073709551615d").contains("too long"));
    }

    #[test]
    fn writing_and_reading_agree() {
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "3h", "2d"] {
            assert_eq!(written(parse(text).expect(text)), text);
        }
    }
}
