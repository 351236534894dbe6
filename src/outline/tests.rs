use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

static MEMBERS: Members = Members { named: &[b"a", b"list", b"model"], whole: &[b"usage"] };

fn outline_in(text: &[u8], size: usize) -> (Vec<u8>, bool) {
    let mut outline = Outline::new(&MEMBERS);
    for piece in text.chunks(size) {
        outline.push(piece);
        assert!(outline.kept.len() <= LIMIT + TEXT_LIMIT + NAME_LIMIT && outline.levels.len() <= DEPTH);
    }
    (outline.kept().to_vec(), outline.is_complete())
}

fn outline(text: &str) -> String {
    let (kept, complete) = outline_in(text.as_bytes(), usize::MAX);
    assert!(complete, "{text}");
    String::from_utf8(kept).unwrap()
}

#[test]
fn named_members_are_kept_where_they_stand_and_others_are_left_out() {
    for (text, expected) in [
        ("{}", "{}"),
        (r#" { "a" : 1 , "b" : 2 , "model":"m" } "#, r#"{"a":1,"model":"m"}"#),
        (r#"{"b":{"a":1},"a":{"b":1,"a":null}}"#, r#"{"a":{"a":null}}"#),
        (r#"{"b":"\"a\":1,}","c":[{"a":1},"]"],"a":true}"#, r#"{"a":true}"#),
        (
            r#"{"list":[{"a":1,"x":[]},{"x":"{"},[],2,"s"],"a":[]}"#,
            r#"{"list":[{"a":1},{},[],2,"s"],"a":[]}"#,
        ),
        (
            r#"{"usage":{"x":1,"y":{"z":[1,{"q":"r"}]}},"x":{"usage":{}}}"#,
            r#"{"usage":{"x":1,"y":{"z":[1,{"q":"r"}]}}}"#,
        ),
        (r#"{"\u0061":1,"b\"":2,"a":-1.5e3}"#, r#"{"a":-1.5e3}"#),
        (r#"{"x":12,"y":null,"a":"é\"\\"}"#, r#"{"a":"é\"\\"}"#),
    ] {
        assert_eq!(outline(text), expected, "{text}");
        for size in 1..8 {
            assert_eq!(outline_in(text.as_bytes(), size), (expected.as_bytes().to_vec(), true), "{text}");
        }
    }
}

#[test]
fn what_is_long_or_deep_is_shortened_and_stays_json() {
    let text = format!(r#"{{"a":"{}","model":"m"}}"#, "x".repeat(5_000));
    let expected = format!(r#"{{"a":"{}","model":"m"}}"#, "x".repeat(TEXT_LIMIT));
    assert_eq!(outline(&text), expected);
    let text = format!(r#"{{"a":"xy{}","model":"m"}}"#, r"\ud83d\ude00é".repeat(5_000));
    assert_eq!(outline(&text), r#"{"a":"xy","model":"m"}"#);
    let list = vec![json!({ "a": 1, "x": "x".repeat(900) }); 5_000];
    let kept: Value =
        serde_json::from_str(&outline(&json!({ "list": list, "model": "m" }).to_string())).unwrap();
    assert_eq!(kept, json!({ "list": vec![json!({ "a": 1 }); ELEMENTS as usize], "model": "m" }));
    let numbers = format!(r#"{{"list":[{}7],"model":"m"}}"#, "1, ".repeat(5_000));
    let kept: Value = serde_json::from_str(&outline(&numbers)).unwrap();
    assert_eq!(kept, json!({ "list": vec![1; ELEMENTS as usize], "model": "m" }));
    let deep = format!(r#"{{"a":{}1{},"model":"m"}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(
        outline(&deep),
        r#"{"a":[[[[[[[[]]]]]]]],"model":"m"}"#.replacen(
            "[[[[[[[[]]]]]]]]",
            &format!("{}[]{}", "[".repeat(DEPTH - 1), "]".repeat(DEPTH - 1)),
            1
        )
    );
}

#[test]
fn what_is_no_object_or_has_too_much_to_keep_is_never_complete() {
    for text in
        ["", "1", "\"a\"", "{", r#"{"a""#, r#"{"a":1"#, r#"{"a":[1}"#, r#"{"a":1}}"#, "{a:1}", r#"{"x":"#]
    {
        assert!(!outline_in(text.as_bytes(), 3).1, "{text}");
    }
    let too_much = json!({ "usage": vec![vec!["x".repeat(TEXT_LIMIT); 256]; 256] }).to_string();
    assert!(!outline_in(too_much.as_bytes(), 4_096).1);
}

/// What the outline of a tree should be, of trees that are neither long nor deep.
fn expected(tree: &Value, keeps_all: bool) -> Value {
    match tree {
        Value::Object(members) => members
            .iter()
            .filter_map(|(name, value)| {
                let whole = keeps_all || MEMBERS.whole.contains(&name.as_bytes());
                let kept = whole || MEMBERS.named.contains(&name.as_bytes());
                kept.then(|| (name.clone(), expected(value, whole)))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(elements) => elements.iter().map(|element| expected(element, keeps_all)).collect(),
        other => other.clone(),
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z{}\\[\\],:\\\\\"é]{0,12}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec!["a", "b", "list", "usage", "model", "x", "q{"]);
    let nested = scalar.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::vec(nested, 0..6).prop_map(|values| {
        let names = ["a", "x", "usage", "list", "y", "model"];
        Value::Object(names.into_iter().map(str::to_owned).zip(values).collect())
    })
}

proptest! {
    #[test]
    fn an_outline_is_the_tree_without_what_is_not_named(tree in tree(), size in 1_usize..40, pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&tree) } else { serde_json::to_vec(&tree) }.unwrap();
        let (kept, complete) = outline_in(&text, size);
        prop_assert!(complete);
        prop_assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), expected(&tree, false));
    }

    #[test]
    fn no_cut_changes_an_outline(tree in tree(), at: prop::sample::Index, byte in 0..128_u8, size in 1_usize..9) {
        // Broken texts too.
        let mut text = serde_json::to_vec(&tree).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        prop_assert_eq!(outline_in(&text, size), outline_in(&text, usize::MAX));
    }
}
