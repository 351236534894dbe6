//! The facts of a request's body against the body as a tree.
//!
//! - Nothing panics, and what is not a JSON object gives no facts.
//! - Where `serde_json::Value` reads an object, the facts are what the tree says, and they are refused exactly when a member that
//!   counts is there twice, is of the wrong type, or is a `model` in other letters or too long.
//! - The edit points lead to the value of `model` and behind the opening brace.
//! - A body that is refused as not JSON is none for `Value` either.
//! - No message holds anything of the body.
//!
//! Input: the body.

use serde::Deserialize;
use serde_json::Value;
use sluicegate::openai::{EditPoints, Facts, FactsError, MODEL_LIMIT};

use super::json::Members;

const FLAGS: [&str; 2] = ["stream", "background"];
const COUNTS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// Something that is refused; which of several is told first is not of interest here.
struct Refused;

pub fn check(body: &[u8]) {
    let read = Facts::read(body);
    if let Err(error) = &read {
        says_nothing_of(body, error);
    }
    let Some(members) = Members::of(body) else {
        let is_json = serde_json::from_slice::<Value>(body).is_ok_and(|value| !value.is_object());
        assert!(!is_json || matches!(read, Err(FactsError::NotAnObject)), "{read:?}");
        return;
    };
    match (read, expected(&members, body)) {
        (Ok(facts), Ok(mut expected)) => {
            check_edit_points(&facts.edit_points, &members, body);
            expected.edit_points = facts.edit_points.clone();
            assert_eq!(facts, expected);
        }
        (Err(error), Err(Refused)) => {
            let of_a_member = matches!(
                error,
                FactsError::Duplicate { .. }
                    | FactsError::OtherCase
                    | FactsError::WrongType { .. }
                    | FactsError::ModelTooLong
            );
            assert!(of_a_member, "{error:?}");
        }
        (read, expected) => panic!("{read:?}, but {:?} by the tree", expected.ok()),
    }
}

/// They lead to the value of `model`, and behind the opening brace.
fn check_edit_points(points: &EditPoints, members: &Members, body: &[u8]) {
    let EditPoints::Object { model, after_brace, is_empty } = points else {
        panic!("an object has edit points")
    };
    let value = model.as_ref().map(|range| {
        let written = body.get(range.clone()).expect("a part of the body");
        assert_eq!(written, written.trim_ascii());
        serde_json::from_slice::<Value>(written).expect("a value")
    });
    assert_eq!(value.as_ref(), members.all("model").next());
    assert_eq!(body[..*after_brace].trim_ascii(), b"{");
    assert_eq!(*is_empty, members.0.is_empty());
}

/// `stream_options` with its members as they were written.
#[derive(Deserialize)]
struct Options {
    stream_options: Members,
}

fn expected(members: &Members, body: &[u8]) -> Result<Facts, Refused> {
    let in_other_letters = |name: &str| name != "model" && name.eq_ignore_ascii_case("model");
    if members.0.iter().any(|(name, _)| in_other_letters(name)) {
        return Err(Refused);
    }
    let mut facts = Facts::default();
    match once(members.all("model"))? {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name.len() <= MODEL_LIMIT => facts.model = Some(name.clone()),
        Some(_) => return Err(Refused),
    }
    let [stream, background] = FLAGS.map(|name| once(members.all(name)).and_then(flag));
    (facts.stream, facts.background) = (stream?, background?);
    for name in COUNTS {
        match once(members.all(name))? {
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) => facts.max_tokens = facts.max_tokens.max(number.as_u64()),
            Some(_) => return Err(Refused),
        }
    }
    match once(members.all("stream_options"))? {
        None | Some(Value::Null) => {}
        // The tree keeps the last of two members, and so would not tell.
        Some(Value::Object(_)) => {
            let Options { stream_options } = serde_json::from_slice(body).map_err(|_| Refused)?;
            facts.include_usage = flag(once(stream_options.all("include_usage"))?)?;
        }
        Some(_) => return Err(Refused),
    }
    Ok(facts)
}

fn once<'m>(mut values: impl Iterator<Item = &'m Value>) -> Result<Option<&'m Value>, Refused> {
    let first = values.next();
    if values.next().is_some() { Err(Refused) } else { Ok(first) }
}

fn flag(value: Option<&Value>) -> Result<bool, Refused> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refused),
    }
}

/// The messages are the program's own words, and two numbers.
fn says_nothing_of(body: &[u8], error: &FactsError) {
    let mut told = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told += &format!(" {error} {error:?}");
        cause = error.source();
    }
    // A word that no message has by itself.
    const MARK: &str = "Zx81yBq7";
    assert!(memchr::memmem::find(body, MARK.as_bytes()).is_none() || !told.contains(MARK), "{told}");
}
