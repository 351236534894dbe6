//! What has changed between two states, as a JSON merge patch (RFC 7396).

use serde_json::{Map, Value};

/// The merge patch that makes `after` of `before`; `None` if they are equal. Neither has a member that is `null`.
pub(super) fn between(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut changed = Map::new();
    for (name, value) in after {
        match before.get(name) {
            None => _ = changed.insert(name.clone(), value.clone()),
            Some(known) => {
                if let Some(change) = between(known, value) {
                    changed.insert(name.clone(), change);
                }
            }
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    changed.extend(gone.map(|name| (name.clone(), Value::Null)));
    (!changed.is_empty()).then_some(Value::Object(changed))
}

/// An object of these members, without those that are `null`.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let known = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(known.map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (name, value) in patch {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(name);
            } else {
                apply(target.as_object_mut().unwrap().entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }

    #[test]
    fn a_patch_makes_the_later_state_of_the_earlier_one() {
        let states = [
            json!({}),
            json!({ "a": 1, "rows": { "x": { "n": 1, "list": [1, 2] }, "y": { "n": 2 } } }),
            json!({ "a": 1, "rows": { "x": { "n": 3, "list": [2] }, "z": { "n": 2 } } }),
            json!({ "a": { "b": true }, "rows": {} }),
        ];
        for before in &states {
            for after in &states {
                let mut made = before.clone();
                match between(before, after) {
                    Some(patch) => apply(&mut made, &patch),
                    None => assert_eq!(before, after),
                }
                assert_eq!(made, *after);
            }
        }
        assert_eq!(between(&states[1], &states[2]).unwrap()["rows"]["y"], Value::Null);
        assert_eq!(between(&states[1], &states[2]).unwrap().get("a"), None);
    }

    #[test]
    fn an_object_has_no_member_that_is_null() {
        assert_eq!(object([("a", json!(1)), ("b", json!(None::<u8>))]), json!({ "a": 1 }));
    }
}
