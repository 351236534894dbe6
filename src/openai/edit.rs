//! Changing one member of a request body, and leaving every other byte as it is.

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
}

/// The body with another `model`; `None` when it names none, or is no JSON object.
pub fn with_model(body: &[u8], model: &str) -> Option<Vec<u8>> {
    // serde takes an array for a struct too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let Body { model: written } = serde_json::from_slice(body).ok()?;
    let written = written?.get();
    // It is a part of the body, so the difference of addresses is its place there.
    let start = (written.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, after) = (body.get(..start)?, body.get(start + written.len()..)?);
    let name = serde_json::to_string(model).ok()?;
    Some([before, name.as_bytes(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_changes() {
        let body = br#" { "a" : {"model":"no"}, "model"  :  "gpt-4o" , "x":[1.0e2,"\u00e9"]} "#;
        let edited = with_model(body, "other\"model").unwrap();
        let expected = br#" { "a" : {"model":"no"}, "model"  :  "other\"model" , "x":[1.0e2,"\u00e9"]} "#;
        assert_eq!(edited, expected);
        assert_eq!(with_model(br#"{"a":1}"#, "m"), None);
        assert_eq!(with_model(br#"[1]"#, "m"), None);
        assert_eq!(with_model(b"", "m"), None);
    }
}
