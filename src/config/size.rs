//! Sizes in bytes: `"32MiB"`, `"64KiB"`, `"1GB"`.

use super::problem::{Complaint, complaint};

/// Bytes in each unit; the binary units are those of IEC 80000-13.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The help for a size that could not be read.
pub(crate) const HELP: &str =
    r#"write a whole number with a unit, for example "512B", "64KiB", "32MiB" or "1GB""#;

/// Reads a size, in bytes.
pub(crate) fn parse(text: &str) -> Result<u64, Complaint> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(complaint("is not a size", HELP));
    }
    if unit.is_empty() {
        return Err(complaint("has a number without a unit of size", HELP));
    }
    let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, bytes) = known.ok_or_else(|| complaint("has an unknown unit of size", HELP))?;
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(*bytes))
        .ok_or_else(|| complaint("is a size that is too large to be counted", HELP))
}

/// A size in bytes as it would be written.
pub(crate) fn written(bytes: u64) -> String {
    let binary = UNITS.iter().rev().find(|(_, unit)| unit.is_power_of_two() && bytes.is_multiple_of(*unit));
    match binary {
        Some((name, unit)) if bytes > 0 => format!("{}{name}", bytes / unit),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_units_are_read() {
        assert_eq!(parse("512B"), Ok(512));
        assert_eq!(parse("64KiB"), Ok(65_536));
        assert_eq!(parse("32 MiB"), Ok(33_554_432));
        assert_eq!(parse("1GB"), Ok(1_000_000_000));
        assert_eq!(parse("1gib"), Ok(1 << 30));
        assert_eq!(parse("2TiB"), Ok(2 << 40));
        assert_eq!(written(32 << 20), "32MiB");
        assert_eq!(written(1000), "1000B");
    }

    #[test]
    fn what_is_not_a_size_says_why() {
        let why = |text| parse(text).expect_err(text).message;
        assert!(why("32").contains("without a unit"));
        assert!(why("32M").contains("unknown unit"));
        assert!(why("1.5GiB").contains("unknown unit"));
        assert!(why("big").contains("not a size"));
        assert!(why("99999999TiB").contains("too large"));
    }
}
