//! The facts of a request's body against the body as a tree.
//!
//! - Nothing panics, and JSON that is not an object has the facts of an empty object, but nothing to edit.
//! - Where `serde_json::Value` reads an object, the facts are what the tree says, and they are refused exactly when `model` or `stream` is
//!   there twice or of the wrong type, or there is a `model` in other letters or too long.
//! - The edit points lead to the value of `model` and behind the opening brace.
//! - A body that is refused as not JSON is none for `Value` either.
//! - No message holds anything of the body.
//!
//! Input: the body.

use serde_json::{Value, value::RawValue};
use sluicegate::openai::{EditPoints, Facts, FactsError, MODEL_LIMIT};

use super::json::Members;

const COUNTS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// What the types of tools look like that run at the client.
const RUN_BY_CLIENTS: [fn(&str) -> bool; 2] = [
    |kind| ["function", "custom", "local_shell", "apply_patch"].contains(&kind),
    |kind| ["computer", "bash_", "text_editor_", "memory_"].iter().any(|begun| kind.starts_with(begun)),
];

/// Something that is refused; which of several is told first is not of interest here.
struct Refused;

pub fn check(body: &[u8]) {
    let read = Facts::read(body);
    if let Err(error) = &read {
        says_nothing_of(body, error);
    }
    let Some(members) = Members::of(body) else {
        let is_json = serde_json::from_slice::<Value>(body).is_ok_and(|value| !value.is_object());
        assert!(!is_json || read.as_ref().is_ok_and(|facts| *facts == Facts::default()), "{read:?}");
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
    let EditPoints::Object { model, after_brace, is_empty, .. } = points else {
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
    facts.stream = flag(once(members.all("stream"))?)?;
    let is_on = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    facts.background = members.all("background").any(is_on);
    facts.store = members.all("store").any(is_on);
    let mut continued = members.all("conversation").chain(members.all("previous_response_id"));
    facts.continues = continued.any(|value| !value.is_null());
    let kinds = types_of_tools(body);
    facts.hosted_tools = kinds.iter().any(|kind| !RUN_BY_CLIENTS.iter().any(|fits| fits(kind)));
    let is_filled = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => false,
    };
    let names_mcp = kinds.iter().any(|kind| matches!(kind.as_str(), "mcp" | "mcp_toolset"));
    facts.mcp = names_mcp || members.all("mcp_servers").any(is_filled);
    let counts = COUNTS.iter().flat_map(|name| members.all(name)).filter_map(Value::as_u64);
    facts.max_tokens = counts.max();
    facts.include_usage = includes_usage(body);
    Ok(facts)
}

/// Whether an `include_usage` of a `stream_options` is `true`. A tree keeps the last of two members, and so would not show the first.
fn includes_usage(body: &[u8]) -> bool {
    let Ok(written) = serde_json::from_slice::<Members<Box<RawValue>>>(body) else { return false };
    written.all("stream_options").any(|options| {
        let Some(options) = Members::of(options.get().as_bytes()) else { return false };
        options.all("include_usage").any(|value| *value == Value::Bool(true))
    })
}

/// The types of the tools, as far as they are text.
fn types_of_tools(body: &[u8]) -> Vec<String> {
    let Ok(written) = serde_json::from_slice::<Members<Box<RawValue>>>(body) else { return Vec::new() };
    let lists =
        written.all("tools").filter_map(|tools| serde_json::from_str::<Vec<&RawValue>>(tools.get()).ok());
    let tools = lists.flatten().filter_map(|tool| Members::of(tool.get().as_bytes()));
    tools
        .flat_map(|tool| tool.all("type").filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
        .collect()
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
