use std::{collections::BTreeSet, time::Duration};

use super::{language::Texts, *};
use crate::{
    fault::{CloseReason, Decoding, Mistake, Reason, ValueType, phrase::Phrase},
    openai::Invalid,
};

/// What follows messages and stands between names.
const OF_THE_LANGUAGE: [(&str, &[&str]); 2] = [("language.list", &[]), ("language.reference", &["code"])];

/// Words in Latin letters that Chinese texts have as well, beside those that are names by their form ([`is_name`]).
const LATIN: [&str; 25] = [
    "Authorization",
    "Azure",
    "Bearer",
    "Connection",
    "Host",
    "KEY",
    "Origin",
    "Realtime",
    "Upgrade",
    "authority",
    "base",
    "chunked",
    "docs",
    "errors",
    "gzip",
    "healthz",
    "https",
    "idle",
    "metrics",
    "multipart",
    "readyz",
    "upgrade",
    "zstd",
    "MiB",
    "Gemini",
];

/// Whether a word is the name of something by its form: of a header, a setting, a parameter, a protocol, a product.
fn is_name(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    capitals > 1
        || word.contains(|one: char| "-_.".contains(one) || one.is_ascii_digit())
        || LATIN.contains(&word)
}

/// The texts that the program asks for, with the placeholders of each.
fn wanted() -> Vec<(String, BTreeSet<&'static str>)> {
    let names = |arguments: &[Argument]| arguments.iter().map(|argument| argument.name).collect();
    let faults =
        Fault::examples().into_iter().map(|fault| (fault.text().to_owned(), names(&fault.arguments())));
    let phrases = phrases().into_iter().filter_map(|value| match value {
        Value::Phrase(name, arguments) => Some((name.to_owned(), names(&arguments))),
        Value::Text(_) | Value::Names(_) => None,
    });
    let others =
        OF_THE_LANGUAGE.map(|(name, arguments)| (name.to_owned(), arguments.iter().copied().collect()));
    faults.chain(phrases).chain(others).collect()
}

fn phrases() -> Vec<Value> {
    let values = |phrases: Vec<Value>| phrases.into_iter();
    let reasons = values(Reason::values()).chain(values(Decoding::values()));
    let problems = Invalid::examples().iter().map(|invalid| Value::of(&**invalid)).collect();
    let reasons = reasons.chain(values(problems));
    reasons.chain(values(ValueType::values())).chain(values(CloseReason::values())).collect()
}

/// What is wrong with the file of a language: texts that are missing or not asked for, and placeholders that are not the arguments.
fn problems(file: &str) -> Vec<String> {
    let texts = match Texts::read(file) {
        Ok(texts) => texts,
        Err(error) => return vec![error.to_string()],
    };
    let wanted = wanted();
    let mut problems = Vec::new();
    for (name, arguments) in &wanted {
        match texts.templates.get(name) {
            None => problems.push(format!("`{name}` has no text")),
            Some(text) => {
                let placeholders: BTreeSet<&str> = text.names().collect();
                if placeholders != *arguments {
                    problems.push(format!("`{name}` has {placeholders:?}, not {arguments:?}"));
                }
            }
        }
    }
    let known: BTreeSet<&String> = wanted.iter().map(|(name, _)| name).collect();
    let unknown = texts.templates.keys().filter(|name| !known.contains(name));
    problems.extend(unknown.map(|name| format!("`{name}` is not asked for")));
    problems
}

fn chinese() -> Language {
    Language::named("zh").unwrap()
}

#[test]
fn each_row_of_the_table_has_a_text_of_its_own() {
    // And an example that reaches this row.
    let examples = || Fault::examples().into_iter();
    let names: BTreeSet<_> = examples().map(|fault| fault.text()).collect();
    // A wrong request has one row, and an example of each code.
    let of_requests = examples().filter(|fault| fault.text() == "request_invalid").count();
    assert_eq!(names.len(), examples().len() - (of_requests - 1));
}

#[test]
fn every_language_has_every_text_and_no_other_with_its_arguments_for_placeholders() {
    for language in Language::all() {
        let problems = problems(language.file());
        assert!(problems.is_empty(), "src/fault/messages/{}.toml: {problems:#?}", language.tag());
    }
    assert_eq!(Language::all().map(Language::tag).collect::<Vec<_>>(), ["en", "zh"]);
}

/// A language needs no code: a file that lacks something is reported by the test above.
#[test]
fn what_a_further_language_lacks_is_named() {
    let french = r#"
        draining = "La passerelle s'arrête."
        idle = "Rien depuis {secondes} s."
        obsolete = "?"
        [type]
        boolean = "un booléen"
    "#;
    let lacking = problems(french);
    assert!(lacking.contains(&"`internal` has no text".to_owned()), "{lacking:#?}");
    assert!(lacking.contains(&"`reason.host_missing` has no text".to_owned()));
    assert!(lacking.contains(&"`idle` has {\"secondes\"}, not {\"seconds\"}".to_owned()));
    assert!(lacking.contains(&"`obsolete` is not asked for".to_owned()));
    assert_eq!(lacking.len(), wanted().len() - 2 + 1);
    assert!(problems("draining = 1 2")[0].contains("TOML parse error"));
}

#[test]
fn messages_are_sentences() {
    for language in Language::all() {
        for fault in Fault::examples() {
            // The path of one example looks like a placeholder.
            let mut message = String::new();
            language.fill(&mut message, fault.text(), &fault.arguments());
            let message = message.replace("/{method}", "/");
            let end = if language == chinese() { '。' } else { '.' };
            assert!(
                message.ends_with(end) && !message.contains("  ") && !message.contains('{'),
                "{message:?}"
            );
            assert!(
                fault.message(language).contains(&format!("docs/errors#{}", fault.row().code)),
                "{message:?}"
            );
        }
        for phrase in phrases() {
            let text = phrase.text(language);
            assert!(!text.is_empty() && !text.contains('{') && !text.contains("  "), "{text:?}");
        }
    }
}

/// A client of a stream or a socket sees them in one line, and terminals and logs too.
#[test]
fn texts_have_no_control_characters() {
    for language in Language::all() {
        for text in language.texts().unwrap().templates.values().map(Template::text) {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}

#[test]
fn chinese_texts_are_chinese() {
    for (name, template) in &chinese().texts().unwrap().templates {
        let text = template.text();
        // Quotations, and what stands for arguments, are of no language.
        let outside = text.split('`').step_by(2).collect::<String>();
        let mut prose = outside.as_str();
        let mut words = String::new();
        while let Some((before, opened)) = prose.split_once('{') {
            words += before;
            words += " ";
            prose = opened.split_once('}').unwrap().1;
        }
        words += prose;
        let is_word = |one: char| one.is_ascii_alphanumeric() || one == '-' || one == '_' || one == '.';
        for word in
            words.split(|one| !is_word(one)).map(|word| word.trim_matches(|one| one == '.' || one == '-'))
        {
            assert!(word.is_empty() || is_name(word), "`{name}` has {word:?}, which is no name: {text}");
        }
        for wrong in
            [", ", "; ", "! ", "? ", ": ", ".", "(", ")"].iter().filter(|wrong| words.contains(**wrong))
        {
            assert!(word_has_dot(&words, wrong), "`{name}` has {wrong:?} for a Chinese mark: {text}");
        }
        spaced(name, text);
    }
}

/// A dot within a name is no full stop.
fn word_has_dot(words: &str, mark: &str) -> bool {
    mark == "." && !words.contains(". ") && !words.ends_with('.')
}

/// Latin letters and digits stand with spaces between them and Chinese characters, as Chinese developers write them.
fn spaced(name: &str, text: &str) {
    let is_han = |one: char| ('\u{4e00}'..='\u{9fff}').contains(&one);
    let is_latin = |one: char| one.is_ascii_alphanumeric() || one == '`';
    // `{expected}` is Chinese itself.
    let text = text.replace("{expected}", "").replace(['{', '}'], "");
    let pairs = text.chars().zip(text.chars().skip(1));
    for (one, next) in pairs {
        let touches = (is_han(one) && is_latin(next)) || (is_latin(one) && is_han(next));
        assert!(!touches, "`{name}`: {one}{next} in {text}");
    }
}

#[test]
fn reasons_of_close_frames_have_room() {
    for language in Language::all() {
        for value in CloseReason::values() {
            let text = value.text(language);
            assert!(text.len() <= CLOSE_REASON, "{} bytes: {text}", text.len());
        }
        // Of a message that is too long there are whole sentences.
        for fault in Fault::examples() {
            let (reason, message) = (fault.close_reason(language), fault.message(language));
            assert!(reason.len() <= CLOSE_REASON, "{} bytes: {reason}", reason.len());
            assert!(message.starts_with(&reason) && reason.ends_with(['.', '。', ')', '）']), "{reason}");
        }
    }
}

#[test]
fn arguments_are_put_in_as_they_are() {
    let mistake = Box::new(Mistake::Unknown);
    let route = Fault::NoRoute { method: "GET".into(), path: "/{method}".into(), mistake };
    assert!(route.message(Language::EN).contains(" GET /{method} "), "{route}");
    assert!(route.message(chinese()).contains(" GET /{method} "), "{route}");
    assert!(route.to_string().ends_with(". (docs/errors#route_not_found)"), "{route}");
    assert!(Fault::Idle(Duration::from_millis(1500)).to_string().contains(" 1.5 s"));
    assert!(Fault::BodyStalled(Duration::from_secs(60)).to_string().contains(" 60 s"));
    assert!(Fault::Full(Duration::from_millis(1500)).to_string().contains(" 2 s"));
}

#[test]
fn arguments_that_are_texts_themselves_are_in_the_same_language() {
    let reason = Reason::MemberType { member: "stream", expected: ValueType::Boolean };
    let message = Fault::BadRequest(reason).message(chinese());
    assert_eq!(message, "请求被拒绝：`stream` 不是布尔值。请修正请求。（参见 docs/errors#invalid_request）");
    let names = ["gpt-4".to_owned(), "gpt-4o".to_owned()];
    let unknown = Fault::model_not_found("gpt", &names);
    assert!(unknown.message(chinese()).contains("`gpt-4`、`gpt-4o`"));
    assert!(unknown.to_string().contains("`gpt-4`, `gpt-4o`"));
}
