use std::time::Duration;

use super::{SOUND, one_problem, read, sound};
use crate::config::{Burst, Each, Per};

fn file(limit: &str) -> String {
    format!("{SOUND}\n[limit.fair-use]\n{limit}\n")
}

#[test]
fn a_limit_has_the_numbers_that_are_written() {
    let config =
        sound(&file("each = \"group\"\nrequests = 600\ntokens = 200_000\nper = \"1m\"\nburst = \"6s\""));
    let limit = &config.limits["fair-use"];
    assert_eq!((limit.each, limit.requests, limit.tokens), (Each::Group, Some(600), Some(200_000)));
    assert_eq!(limit.per, Some(Per::Span(Duration::from_secs(60))));
    assert_eq!(limit.burst, Burst::Span(Duration::from_secs(6)));
    assert!(limit.enforce);
    let of = |burst: Burst, quantity| burst.of(quantity, Duration::from_secs(60), None);
    assert_eq!((of(limit.burst, 600), of(Burst::USUAL, 600), of(Burst::USUAL, 5)), (60, 60, 1));
    let sized = Burst::Sizes { requests: Some(7), tokens: None, cost: None };
    assert_eq!(sized.of(600, Duration::from_secs(60), Some(7)), 7);
}

#[test]
fn a_day_is_a_period_and_a_span_of_24_hours_is_not() {
    let per =
        |text: &str| sound(&file(&format!("requests = 1\nper = \"{text}\""))).limits["fair-use"].per.clone();
    assert_eq!(per("1d"), Some(Per::Span(Duration::from_secs(86_400))));
    assert!(matches!(per("day"), Some(Per::Day(_))));
    assert!(matches!(per("month"), Some(Per::Month(_))));
}

#[test]
fn mistakes_say_what_to_write() {
    for (limit, message) in [
        ("", "limits nothing"),
        ("requests = 1", "needs `per`"),
        ("concurrent = 1\nper = \"1m\"", "is not for requests at once"),
        ("concurrent = 1\nburst = \"1m\"", "is not for requests at once"),
        ("requests = 1\nper = \"day\"\nburst = \"1h\"", "is not for periods of the calendar"),
        ("requests = 1\nper = \"day\"\ntimezone = \"Europe/Atlantis\"", "is not the name of a time zone"),
        ("requests = 1\nper = \"week\"", "is not a time span"),
        ("requests = 0\nper = \"1m\"", "must be from 1 to"),
        ("requests = 1\nper = \"1m\"\nweights = { output = 1001 }", "must be from 0 to 1000"),
        ("requests = 1\nper = \"1m\"\nweights = { output = \"2\" }", "must be a number"),
        ("requests = 1\nper = \"1m\"\nexhausted = \"next\"", "is for limits by model"),
        (
            "each = \"model\"\nconcurrent = 1\nexhausted = \"next\"\nqueue = {}",
            "a request either waits or goes on to another model",
        ),
        ("concurrent = 1\nqueue = { size = 0 }", "size"),
        ("requests = 1\nper = \"1m\"\nroutes = [\"opnai\"]", "is defined"),
        ("requests = 1\nper = \"1m\"\nmodels = [\"*gpt\"]", "is not the name of a model"),
    ] {
        let problem = one_problem(&file(limit));
        assert!(problem.contains(message), "{limit}: {problem}");
    }
    let unknown = file("concurrent = 1")
        .replace("[limit.fair-use]", "[defaults]\nlimits = [\"fare-use\"]\n[limit.fair-use]");
    let problems = read(&unknown).expect_err("no such limit");
    assert!(
        problems.iter().any(|problem| problem.message.contains("no limit `fare-use` is defined")),
        "{problems:?}"
    );
}
