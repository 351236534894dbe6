//! Changing one member of a request body, and leaving every other byte as it is.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "written")]
    model: Option<&'a RawValue>,
}

/// As it is, `null` too.
fn written<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The body with another `model`, as its first member if it names none; `None` when it is no JSON object.
pub fn with_model(body: &[u8], model: &str) -> Option<Vec<u8>> {
    // serde takes an array for a struct too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let Body { model: written } = serde_json::from_slice(body).ok()?;
    let name = serde_json::to_string(model).ok()?;
    let Some(written) = written.map(RawValue::get) else {
        let open = body.iter().position(|byte| *byte == b'{')?;
        let (before, after) = body.split_at(open + 1);
        let comma: &[u8] = if after.trim_ascii_start().starts_with(b"}") { b"" } else { b"," };
        return Some([before, b"\"model\":", name.as_bytes(), comma, after].concat());
    };
    // It is a part of the body, so the difference of addresses is its place there.
    let start = (written.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, after) = (body.get(..start)?, body.get(start + written.len()..)?);
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
        assert_eq!(with_model(br#" {"a":1}"#, "m").unwrap(), br#" {"model":"m","a":1}"#);
        assert_eq!(with_model(br#"{"model":null}"#, "m").unwrap(), br#"{"model":"m"}"#);
        assert_eq!(with_model(b"{ }", "m").unwrap(), br#"{"model":"m" }"#);
        assert_eq!(with_model(br#"[1]"#, "m"), None);
        assert_eq!(with_model(b"", "m"), None);
    }
}
