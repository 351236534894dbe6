//! Time spans ([`crate::span`]), with complaints for people who write a configuration.

use std::time::Duration;

pub(crate) use crate::span::written;

use super::problem::{Complaint, complaint};

/// The help for a time span that could not be read.
pub(crate) const HELP: &str =
    r#"write a whole number with a unit, for example "250ms", "5s", "1m 30s" or "2h""#;

/// Reads a time span.
pub(crate) fn parse(text: &str) -> Result<Duration, Complaint> {
    crate::span::parse(text).map_err(|error| complaint(error.to_string(), HELP))
}

/// Reads a time span, or "off" as `None`.
pub(crate) fn parse_or_off(text: &str) -> Result<Option<Duration>, Complaint> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_no_span() {
        assert_eq!(parse_or_off("off"), Ok(None));
        assert_eq!(parse_or_off("1s"), Ok(Some(Duration::from_secs(1))));
        assert_eq!(parse("off").expect_err("off").help, HELP);
    }
}
