//! Another model in a request's body.
//!
//! - There is an edited body exactly when the body is a JSON object with at most one `model`.
//! - It is the same document but for the value of `model`, whose other members keep their order, and the facts read the new name. A
//!   `model` that was not there comes first.
//! - It is the old bytes before the value, the new name, the old bytes after it; or a member more.
//!
//! Input: the new name to the first LF, then the body.

use serde_json::Value;
use sluicegate::openai::{Facts, MODEL_LIMIT, with_model};

use super::json::Members;

pub fn check(data: &[u8]) {
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (name, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(name) = std::str::from_utf8(name) else { return };
    let edited = with_model(body, name);
    let Some(members) = Members::of(body) else { return };
    let models: Vec<_> = members.all("model").collect();
    assert_eq!(edited.is_some(), models.len() < 2);
    let Some(edited) = edited else { return };
    let named = !models.is_empty();
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
    if Facts::read(body).is_ok() && name.len() <= MODEL_LIMIT {
        assert_eq!(Facts::read(&edited).expect("still sound").model.as_deref(), Some(name));
    }
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
