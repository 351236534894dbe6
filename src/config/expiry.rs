//! Times at which keys expire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::{
    problem::{Complaint, complaint},
    reader::Table,
};

/// How long before its expiry a key causes a warning.
pub const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);

const HELP: &str =
    r#"write date, time and zone, for example "2027-01-01T00:00:00Z" or "2027-01-01T00:00:00+01:00""#;

/// Reads a time as RFC 3339 writes it.
pub(crate) fn rfc3339(text: &str) -> Result<SystemTime, Complaint> {
    let invalid = || complaint("is not a time with its zone", HELP);
    if !has_form(text) {
        return Err(invalid());
    }
    let time: Timestamp = text.parse().map_err(|_| invalid())?;
    let since = time.as_duration();
    let time = if since.is_negative() {
        UNIX_EPOCH.checked_sub(since.unsigned_abs())
    } else {
        UNIX_EPOCH.checked_add(since.unsigned_abs())
    };
    time.ok_or_else(invalid)
}

/// Warns of keys that have expired, or will within [`EXPIRES_SOON`]. Only a warning: that they expire is what was asked for.
pub(crate) fn warn_of_expiry(table: &Table<'_>, expires: Option<SystemTime>) {
    let (Some(node), Some(expires)) = (table.get("expires"), expires) else { return };
    let help = "write a later time, or remove the client";
    let message = match expires.duration_since(SystemTime::now()) {
        Err(_) => "is over: the client's keys have expired".to_owned(),
        Ok(left) if left < EXPIRES_SOON => {
            format!("is in {}: the client's keys expire then", in_words(left))
        }
        Ok(_) => return,
    };
    node.warn(complaint(message, help));
}

fn in_words(left: Duration) -> String {
    match left.as_secs() / 3600 {
        0 => "less than an hour".to_owned(),
        hours @ 1..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    }
}

/// `YYYY-MM-DDTHH:MM:SS`, perhaps a fraction, and `Z` or `+HH:MM` (RFC 3339 section 5.6). The parser behind it takes more than that.
fn has_form(text: &str) -> bool {
    let Some((date_time, zone)) = text.split_at_checked(19) else { return false };
    let zone = match zone.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => zone,
    };
    fits(date_time, "0000-00-00T00:00:00") && (matches!(zone, "Z" | "z") || is_offset(zone))
}

fn is_offset(zone: &str) -> bool {
    fits(zone, "+00:00") || fits(zone, "-00:00")
}

/// Whether the text has a digit where the form has one, and the same character elsewhere.
fn fits(text: &str, form: &str) -> bool {
    let is_like = |(byte, form): (u8, u8)| {
        if form == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(&form) }
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(is_like)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rfc_3339_are_read_and_others_are_not() {
        // The examples of RFC 3339 section 5.8; the first is 1985-04-12T23:20:50.52Z.
        let at = |text: &str| rfc3339(text).unwrap().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert_eq!(at("1985-04-12T23:20:50.52Z"), 482_196_050_520);
        assert_eq!(at("1996-12-19T16:39:57-08:00"), at("1996-12-20T00:39:57Z"));
        assert_eq!(at("2027-01-01T00:00:00+01:00"), at("2026-12-31t23:00:00z"));
        let wrong = [
            "",
            "2027-01-01",
            "2027-01-01T00:00:00",
            "2027-01-01T00:00Z",
            "2027-01-01 00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-01-01T00:00:00+01",
            "2027-01-01T00:00:00[Europe/Berlin]",
            "2027-02-30T00:00:00Z",
            "２027-01-01T00:00:00Z",
            "2027-01-01T25:00:00Z",
            "+002027-01-01T00:00:00Z",
        ];
        for text in wrong {
            assert!(rfc3339(text).is_err(), "{text}");
        }
    }
}
