//! Edits of a request's body.
//!
//! - Another model: the body can be edited exactly when it has facts and is a JSON object.
//! - The edited body is the same document but for the value of `model`, whose other members keep their order, and the facts read the new
//!   name. A `model` that was not there comes first.
//! - It is the old bytes before the value, the new name, the old bytes after it; or a member more.
//! - The request for the usage: where it may be added, `stream_options.include_usage` is true afterwards, and everything else in the document is
//!   as before. The bytes differ in one place, where nothing, `null` or `false` was.
//! - Any edits: one is accepted exactly when it overlaps none before it, and all together give what replacing one after the other gives,
//!   from the last to the first. Where one is outside of the body, there is no result. The length is known ahead.
//!
//! Input: the new name to the first LF, then the body. The bytes of the name are the ranges of the other edits.

use std::ops::Range;

use serde_json::Value;
use sluicegate::openai::{EditError, Facts, MODEL_LIMIT, Splices};

use super::json::Members;

pub fn check(data: &[u8]) {
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (name, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    any_edits(name, body);
    let Ok(name) = std::str::from_utf8(name) else { return };
    let Ok(facts) = Facts::read(body) else { return };
    let edited = with_model(body, &facts, name);
    let Some(members) = Members::of(body) else { return };
    asks_for_usage(body, &facts);
    let edited = edited.expect("an object can be edited");
    let named = members.all("model").next().is_some();
    if named {
        only_one_piece_differs(body, &edited, name);
    }
    let mut expected = members.0;
    if !named {
        expected.insert(0, ("model".to_owned(), Value::Null));
    }
    for (_, value) in expected.iter_mut().filter(|(member, _)| member == "model") {
        *value = Value::String(name.to_owned());
    }
    assert_eq!(Members::of(&edited).expect("still an object").0, expected);
    if name.len() <= MODEL_LIMIT {
        assert_eq!(Facts::read(&edited).expect("still sound").model.as_deref(), Some(name));
    }
}

fn with_model(body: &[u8], facts: &Facts, name: &str) -> Result<Vec<u8>, EditError> {
    let mut splices = Splices::new();
    splices.set_model(&facts.edit_points, name)?;
    let edited = splices.apply(body)?;
    assert_eq!(edited.len(), splices.edited_length(body.len()));
    Ok(edited)
}

fn asks_for_usage(body: &[u8], facts: &Facts) {
    let mut splices = Splices::new();
    let asked = splices.ask_for_usage(&facts.edit_points);
    assert_eq!(asked.is_ok(), facts.edit_points.takes_usage());
    if asked.is_err() {
        return;
    }
    let edited = splices.apply(body).expect("the points are in the body");
    let read = Facts::read(&edited).expect("still sound");
    assert!(read.include_usage && !facts.include_usage && !read.edit_points.takes_usage());
    assert_eq!(Facts { include_usage: false, edit_points: facts.edit_points.clone(), ..read }, *facts);
    let others = |body: &[u8]| {
        let (options, others): (Vec<_>, Vec<_>) = Members::of(body)
            .expect("an object")
            .0
            .into_iter()
            .partition(|(name, _): &(String, Value)| name == "stream_options");
        let mut options = options.into_iter().next().map_or(Value::Null, |(_, value)| value);
        if let Value::Object(options) = &mut options {
            options.remove("include_usage");
        }
        let is_nothing = options.as_object().is_none_or(serde_json::Map::is_empty);
        (others, (!is_nothing).then_some(options))
    };
    assert_eq!(others(&edited), others(body));
    let before = body.iter().zip(&edited).take_while(|(old, new)| old == new).count();
    let fits = (0..=before).rev().any(|start| {
        ["", "null", "false"].iter().any(|old| {
            let rest = body[start..].strip_prefix(old.as_bytes());
            rest.is_some_and(|rest| edited.len() >= start + rest.len() && edited.ends_with(rest))
        })
    });
    assert!(fits, "{}", String::from_utf8_lossy(&edited));
}

fn only_one_piece_differs(body: &[u8], edited: &[u8], name: &str) {
    let written = serde_json::to_string(name).expect("text is JSON");
    let before = body.iter().zip(edited).take_while(|(old, new)| old == new).count();
    // Somewhere at or before the first difference the name begins, and what follows is the end of the body.
    let fits = (0..=before).rev().any(|start| {
        edited[start..].starts_with(written.as_bytes()) && body.ends_with(&edited[start + written.len()..])
    });
    assert!(fits, "{}", String::from_utf8_lossy(edited));
}

/// Three bytes are an edit: where it begins, how many bytes go, how many come.
fn any_edits(bytes: &[u8], body: &[u8]) {
    let mut splices = Splices::new();
    let mut accepted: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    for edit in bytes.chunks_exact(3).take(16) {
        let start = usize::from(edit[0]);
        let range = start..start + usize::from(edit[1] % 8);
        let replacement = vec![edit[2]; usize::from(edit[2] % 5)];
        let fits = accepted.iter().all(|(other, _)| !overlap(other, &range));
        assert_eq!(
            splices.replace(range.clone(), replacement.clone()).is_ok(),
            fits,
            "{range:?} in {accepted:?}"
        );
        if fits {
            accepted.push((range, replacement));
        }
    }
    let is_inside = accepted.iter().all(|(range, _)| range.end <= body.len());
    let edited = splices.apply(body);
    assert_eq!(edited.is_ok(), is_inside);
    let Ok(edited) = edited else { return };
    // The sort is stable: insertions at one place stay in their order, and come before what is replaced there.
    accepted.sort_by_key(|(range, _)| (range.start, range.end));
    let mut expected = body.to_vec();
    for (range, replacement) in accepted.into_iter().rev() {
        expected.splice(range, replacement);
    }
    assert_eq!(edited, expected);
    assert_eq!(edited.len(), splices.edited_length(body.len()));
}

/// An insertion at either end of another range is beside it.
fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}
