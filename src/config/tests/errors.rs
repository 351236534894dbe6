//! `languages`, and `[[error]]` tables.

use http::StatusCode;

use super::{read, sound, with};
use crate::{config::Config, fault::Language};

const ROUTE: &str = "upstreams = [\"openai\"]";

fn with_errors(defaults: &str, errors: &str) -> String {
    format!("{}\n[defaults]\n{defaults}\n{errors}", with(ROUTE, ROUTE))
}

fn warned(config: &Config) -> Vec<String> {
    config.warnings.iter().map(|one| format!("{}: {} ({})", one.path, one.message, one.help)).collect()
}

#[test]
fn languages_are_inherited_by_routes() {
    let tags = |config: &Config| -> (Vec<_>, Vec<_>) {
        let route = config.routes["openai"].languages;
        (config.languages.iter().map(Language::tag).collect(), route.iter().map(Language::tag).collect())
    };
    assert_eq!(tags(&sound(&with_errors("", ""))), (vec!["en"], vec!["en"]));
    let both = with_errors("languages = [\"zh\", \"en\"]", "");
    assert_eq!(tags(&sound(&both)), (vec!["zh", "en"], vec!["zh", "en"]));
    let own = both.replacen(ROUTE, "upstreams = [\"openai\"]\nlanguages = [\"zh\"]", 1);
    assert_eq!(tags(&sound(&own)), (vec!["zh", "en"], vec!["zh"]));
}

#[test]
fn languages_without_messages_are_mistakes_that_say_which_there_are() {
    for (written, message, help) in [
        ("[\"zh-CN\"]", "there are no messages in the language `zh-CN`", "write \"zh\""),
        ("[\"en_US\"]", "there are no messages in the language `en_US`", "write \"en\""),
        (
            "[\"klingon\"]",
            "there are no messages in the language `klingon`",
            "the languages are \"en\", \"zh\"",
        ),
        ("[]", "is an empty list", "for example [\"en\", \"zh\"]; the first one is the default"),
        ("[\"en\", \"en\"]", "is in this list twice", "remove one of the two"),
        ("[\"EN\"]", "there are no messages in the language `EN`", "write \"en\""),
        ("\"zh\"", "must be a list, not a string", "put it in [ ]"),
    ] {
        let problems = read(&with_errors(&format!("languages = {written}"), "")).expect_err(written);
        let [problem] = &problems[..] else { panic!("{problems:#?}") };
        assert_eq!((&*problem.message, &*problem.help), (message, help), "{written}");
    }
}

#[test]
fn a_table_says_which_errors_and_what_becomes_of_them() {
    let config = sound(&with_errors(
        "languages = [\"en\", \"zh\"]",
        r#"
        [[error]]
        when = { code = "upstream_rate_limited", status = 429, upstream = "openai" }
        message = { en = "Busy ({code}, {status}, {request_id}): {message}", zh = "忙" }
        status = 503
        code = "busy"
        [[error]]
        when = { status = 502 }
        code = "down"
        "#,
    ));
    assert_eq!(warned(&config), Vec::<String>::new());
    let [first, second] = &config.errors[..] else { panic!("{:?}", config.errors) };
    assert_eq!(first.when.code.as_deref(), Some("upstream_rate_limited"));
    assert_eq!(first.when.status, Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(first.when.upstream.as_deref(), Some("openai"));
    assert_eq!(first.message[&Language::named("zh").unwrap()], "忙");
    assert_eq!((first.status, first.code.as_deref()), (Some(StatusCode::SERVICE_UNAVAILABLE), Some("busy")));
    assert_eq!((second.when.code.as_deref(), second.status, second.message.len()), (None, None, 0));
}

#[test]
fn what_cannot_be_meant_is_a_mistake() {
    let error = |when: &str, rest: &str| with_errors("", &format!("[[error]]\n{when}\n{rest}"));
    let when = "when = { status = 502 }";
    for (text, message) in [
        (error("", "code = \"x\""), "is missing"),
        (error("when = {}", "code = \"x\""), "names no errors"),
        (error("when = { codes = \"x\" }", "code = \"x\""), "unknown key"),
        (error("when = { upstream = \"opnai\" }", "code = \"x\""), "no upstream `opnai` is defined"),
        (error("when = { status = 399 }", "code = \"x\""), "must be from 400 to 599"),
        (error("when = { code = \"a b\" }", "code = \"x\""), "is not an error code"),
        (error(when, ""), "changes nothing"),
        (error(when, "status = 600"), "must be from 400 to 599"),
        (error(when, "code = \"Not A Code\""), "is not an error code"),
        (error(when, "message = \"x\""), "must be a table, not a string"),
        (error(when, "message = {}"), "has no text"),
        (error(when, "message = { en = \" \" }"), "is empty"),
        (error(when, "message = { fr = \"x\", en = \"y\" }"), "there are no messages in the language `fr`"),
        (error(when, "message = { en = \"{what}\" }"), "has a placeholder that nothing stands for"),
        (error(when, "message = { en = \"{message\" }"), "has a placeholder that nothing stands for"),
        (error(when, "message = { en = \"message}\" }"), "has a placeholder that nothing stands for"),
        (error(when, "message = { en = \"a\\nb\" }"), "is not a message"),
        (
            error(when, &format!("code = \"x\"\n[[error]]\n{when}\ncode = \"y\"")),
            "is for the same errors as error[0]",
        ),
        (
            with_errors("", "[error]\nwhen = { status = 502 }"),
            "is written as a single table, but there may be several",
        ),
    ] {
        let problems = read(&text).expect_err(&text);
        assert!(problems.iter().any(|problem| problem.message == message), "{text}: {problems:#?}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let errors = "[[error]]\nwhen = { code = \"upstream_rate_limted\" }\nmessage = { en = \"x\" }\n\
                  [[error]]\nwhen = { status = 502, upstream = \"openai\" }\ncode = \"x\"\n\
                  [[error]]\nwhen = { code = \"rate_limit_exceeded\" }\ncode = \"x\"\n\
                  [[error]]\nwhen = { status = 502, upstream = \"openai\", code = \"upstream_closed\" }\ncode = \"y\"";
    let said = warned(&sound(&with_errors("languages = [\"en\", \"zh\"]", errors)));
    assert_eq!(said.len(), 3, "{said:#?}");
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    assert!(has(
        "error[0].when.code: `upstream_rate_limted` is no code of the gateway (did you mean `upstream_rate_limited`?"
    ));
    assert!(has("error[0].message: has no text in zh, which `languages` of [defaults] lists"), "{said:#?}");
    assert!(
        has("error[3]: never applies: error[1] is for all of these errors, and comes first"),
        "{said:#?}"
    );
}
