//! Spans of time as people write them: `"5s"`, `"250ms"`, `"1m 30s"`. The one grammar for them in the program.

use std::time::Duration;

use super::problem::{Complaint, complaint};

/// Milliseconds in each unit.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The help for a time span that could not be read.
pub(crate) const HELP: &str = r#"write a whole number with a unit, for example "250ms", "5s", "1m 30s" or "2h""#;

/// Reads a time span: whole numbers with a unit each, added up.
pub(crate) fn parse(text: &str) -> Result<Duration, Complaint> {
    let mut rest = text.trim();
    let mut millis = 0_u64;
    if rest.is_empty() {
        return Err(complaint("is empty, but a time span is expected", HELP));
    }
    while !rest.is_empty() {
        let (amount, unit, after) = part(rest)?;
        millis = amount.checked_mul(unit).and_then(|more| millis.checked_add(more)).ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// Reads a time span, or "off" as `None`.
pub(crate) fn parse_or_off(text: &str) -> Result<Option<Duration>, Complaint> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

/// A time span as it would be written.
pub(crate) fn written(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let fits = UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}

/// The first number and the milliseconds of its unit, and the rest of the text.
fn part(text: &str) -> Result<(u64, u64, &str), Complaint> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(complaint("is not a time span", HELP));
    }
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (name, after) = rest.split_at(letters);
    if name.is_empty() {
        return Err(complaint("has a number without a unit of time", HELP));
    }
    let unit = UNITS
        .iter()
        .find(|(unit, _)| *unit == name)
        .ok_or_else(|| complaint("has an unknown unit of time", HELP))?;
    Ok((number.parse().map_err(|_| too_long())?, unit.1, after))
}

fn too_long() -> Complaint {
    complaint("is a time span that is too long to be counted", HELP)
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
        assert_eq!(parse_or_off("off"), Ok(None));
        assert_eq!(parse_or_off("1s"), Ok(Some(Duration::from_secs(1))));
    }

    #[test]
    fn what_is_not_a_span_says_why() {
        let why = |text| parse(text).expect_err(text).message;
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
