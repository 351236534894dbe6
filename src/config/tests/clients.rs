//! `expires` and `tags` of a client.

use std::time::{Duration, SystemTime};

use super::{SOUND, one_problem, sound};

fn client(lines: &str) -> String {
    format!("{SOUND}{lines}\n")
}

fn warnings(lines: &str) -> Vec<String> {
    sound(&client(lines))
        .warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.path, warning.message))
        .collect()
}

#[test]
fn keys_that_expire_within_two_weeks_are_warned_of() {
    let expires = |days: i64, hours: u64| {
        let span = Duration::from_secs(days.unsigned_abs() * 86_400 + hours * 3600 + 60);
        let now = SystemTime::now();
        let at = if days < 0 { now - span } else { now + span };
        format!("expires = \"{}\"", humantime::format_rfc3339_seconds(at))
    };
    assert_eq!(warnings(&expires(-1, 0)), ["client.team-a.expires: is over: the client's keys have expired"]);
    assert_eq!(
        warnings(&expires(0, 0)),
        ["client.team-a.expires: is in less than an hour: the client's keys expire then"]
    );
    assert_eq!(
        warnings(&expires(1, 6)),
        ["client.team-a.expires: is in 30 h: the client's keys expire then"]
    );
    assert_eq!(
        warnings(&expires(13, 23)),
        ["client.team-a.expires: is in 13 days: the client's keys expire then"]
    );
    assert!(warnings(&expires(14, 0)).is_empty());
}

#[test]
fn a_time_without_its_zone_is_refused() {
    for time in ["2027-01-01", "2027-01-01T00:00:00", "tomorrow"] {
        let problem = one_problem(&client(&format!("expires = \"{time}\"")));
        assert!(
            problem.starts_with("client.team-a.expires: is not a time with its zone (write date"),
            "{problem}"
        );
    }
    let unquoted = one_problem(&client("expires = 2027-01-01T00:00:00Z"));
    assert!(
        unquoted.starts_with("client.team-a.expires: must be a string, not a date (put it in quotes"),
        "{unquoted}"
    );
}

#[test]
fn tags_are_few_short_and_no_keys() {
    let config = sound(&client("tags = { cost-center = \"4711\", \"a.b\" = \"Überblick 1\" }"));
    let tags: Vec<_> = config.clients["team-a"].tags.iter().map(|tag| (&*tag.name, &*tag.value)).collect();
    assert_eq!(tags, [("a.b", "Überblick 1"), ("cost-center", "4711")]);

    let many: Vec<String> = (0..17).map(|number| format!("t{number} = \"v\"")).collect();
    let problem = one_problem(&client(&format!("tags = {{ {} }}", many.join(", "))));
    assert!(problem.contains("client.team-a.tags: has more than 16 tags"), "{problem}");
    for value in ["x".repeat(129), "a\\nb".to_owned(), "a\\u001bb".to_owned()] {
        let problem = one_problem(&client(&format!("tags = {{ t = \"{value}\" }}")));
        assert!(problem.starts_with("client.team-a.tags.t: is not the value of a tag"), "{problem}");
    }
    let problem = one_problem(&client("tags = { t = \"sk-sg-0123456789abcdef\" }"));
    assert!(problem.contains("looks like a key") && !problem.contains("0123"), "{problem}");
    assert!(one_problem(&client("tags = { \"a b\" = \"v\" }")).contains("is not a valid name"));
    assert!(one_problem(&client("tags = { t = 4711 }")).contains("must be a string"));
}
