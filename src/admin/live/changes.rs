//! What differs between two configurations, as they may be shown.

use serde_json::{Value, json};

/// Limit of the differences that are listed.
const MOST: usize = 200;

/// The keys that differ, each with its value before and after; a value that is not there is left out. At most [`MOST`].
pub(super) fn between(before: &Value, after: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Value>) {
    if before == after || found.len() >= MOST {
        return;
    }
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) else {
        let mut change = json!({ "path": path });
        for (name, value) in [("before", before), ("after", after)] {
            if let (Some(value), Some(change)) = (value, change.as_object_mut()) {
                change.insert(name.to_owned(), value.clone());
            }
        }
        found.push(change);
        return;
    };
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let dot = if path.is_empty() { "" } else { "." };
        compare(&format!("{path}{dot}{name}"), old.get(name), new.get(name), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_that_differs_is_named_with_both_values() {
        let before = json!({ "server": { "threads": 2, "backlog": 1 }, "client": { "a": { "key": "…" } } });
        let after = json!({ "server": { "threads": 4, "backlog": 1 }, "route": { "b": { "path": "/v1" } } });
        let expected = [
            json!({ "path": "client", "before": { "a": { "key": "…" } } }),
            json!({ "path": "route", "after": { "b": { "path": "/v1" } } }),
            json!({ "path": "server.threads", "before": 2, "after": 4 }),
        ];
        assert_eq!(between(&before, &after), expected);
        assert!(between(&after, &after).is_empty());
    }

    #[test]
    fn the_list_is_bounded() {
        let after: serde_json::Map<_, _> =
            (0..2 * MOST).map(|number| (number.to_string(), json!(number))).collect();
        assert_eq!(between(&json!({}), &Value::Object(after)).len(), MOST);
    }
}
