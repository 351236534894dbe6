//! The outline of a JSON text under any chunking.
//!
//! - However the text is cut, the outline is the same.
//! - It never has more than its bound, whatever is in the text.
//! - Where the text is a JSON object, so is its outline, unless that is larger than the bound.
//! - The members of the object itself whose values are short and plain are in it, in their order.
//!
//! Input: eight bytes that decide the cuts, then the text.

use serde_json::Value;
use sluicegate::{
    openai::OUTLINED,
    outline::{Members as Wanted, Outline},
};

use super::json::Members;

/// Its limit, and the longest name and text that are written before it is looked at.
const BOUND: usize = (64 << 10) + 1024;
/// A text with a shorter value is kept as it is.
const SHORT: usize = 200;

static WANTED: &Wanted = &OUTLINED;

pub fn check(data: &[u8]) {
    let Some((seed, text)) = data.split_first_chunk::<8>() else { return };
    let (kept, complete) = outline_of([text]);
    assert_eq!(outline_of(text.chunks(1)), (kept.clone(), complete), "byte by byte");
    let sizes = seed.map(|size| usize::from(size % 37) + 1);
    for size in sizes {
        assert_eq!(outline_of(text.chunks(size)), (kept.clone(), complete), "{size} bytes at once");
    }
    let Some(members) = Members::of(text) else { return };
    if kept.len() > (64 << 10) {
        return;
    }
    assert!(complete, "{}", String::from_utf8_lossy(&kept));
    let outline = Members::of(&kept).expect("an object");
    // A name that is written with an escape is left out.
    if memchr::memchr(b'\\', text).is_none() {
        assert_eq!(plain(&outline), plain(&members));
    }
}

/// The wanted members whose values are no objects or lists.
fn plain(members: &Members) -> Vec<(&str, &Value)> {
    let wanted = |name: &str| [WANTED.named, WANTED.whole].concat().contains(&name.as_bytes());
    let short = |value: &Value| match value {
        Value::String(text) => text.len() <= SHORT,
        Value::Number(_) | Value::Bool(_) | Value::Null => true,
        Value::Array(_) | Value::Object(_) => false,
    };
    let members = members.0.iter().filter(|(name, value)| wanted(name) && short(value));
    members.map(|(name, value)| (name.as_str(), value)).collect()
}

fn outline_of<'t>(pieces: impl IntoIterator<Item = &'t [u8]>) -> (Vec<u8>, bool) {
    let mut outline = Outline::new(WANTED);
    for piece in pieces {
        outline.push(piece);
        assert!(outline.kept().len() <= BOUND);
    }
    (outline.kept().to_vec(), outline.is_complete())
}
