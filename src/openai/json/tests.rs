use proptest::prelude::*;
use serde_json::Value as Tree;

use super::*;

/// Reads all members of an object in all ways, as a tree.
#[derive(Default)]
struct Members(Vec<(Vec<u8>, String)>);

impl Object for Members {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        let mut inner = Self::default();
        let read = match key.len() % 4 {
            0 => format!("{:?}", value.leaf()?),
            1 => format!("{:?} {:?}", value.object(&mut inner)?, inner.0),
            2 => {
                let mut all = Vec::new();
                value.each(|item: Self| all.push(item.0))?;
                format!("{all:?}")
            }
            _ => format!("{:?}", value.skip()?),
        };
        self.0.push((key.to_vec(), read));
        Ok(())
    }
}

/// What serde_json's tree has of the same.
fn members(tree: &serde_json::Map<String, Tree>) -> Vec<(Vec<u8>, String)> {
    let object = |tree: &Tree| tree.as_object().map(members).unwrap_or_default();
    tree.iter()
        .map(|(key, value)| {
            let read = match key.len() % 4 {
                0 => format!("{:?}", leaf(value)),
                1 => format!("{:?} {:?}", shape(value), object(value)),
                2 => {
                    let items = value.as_array().into_iter().flatten().filter(|item| item.is_object());
                    format!("{:?}", items.map(object).collect::<Vec<_>>())
                }
                _ => "()".to_owned(),
            };
            (key.clone().into_bytes(), read)
        })
        .collect()
}

fn shape(tree: &Tree) -> Shape {
    match tree {
        Tree::Object(_) => Shape::Object,
        Tree::Null => Shape::Null,
        _ => Shape::Other,
    }
}

fn leaf(tree: &Tree) -> Leaf<'_> {
    match tree {
        Tree::Null => Leaf::Null,
        Tree::Bool(truth) => Leaf::Bool(*truth),
        Tree::Number(number) => {
            number.as_u64().map_or_else(|| Leaf::Number(number.as_f64().unwrap()), Leaf::Count)
        }
        Tree::String(text) => Leaf::Text(text.into()),
        Tree::Array(items) => Leaf::Nested { filled: !items.is_empty() },
        Tree::Object(items) => Leaf::Nested { filled: !items.is_empty() },
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let text = "[a-c \"\\\\/\\n\\u{1}é😀]{0,12}|[x-z]{0,90}";
    let scalar = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<u64>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        (-1e300..1e300).prop_map(Tree::from),
        text.prop_map(Tree::from),
    ];
    let nested = scalar.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::from),
            prop::collection::btree_map("[a-c\\n\"]{0,5}", inner, 0..5)
                .prop_map(|members| Tree::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-c\\n\"]{0,5}", nested, 0..5)
        .prop_map(|members| Tree::Object(members.into_iter().collect()))
}

/// Pieces that are likely to make JSON, or nearly.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"",
        "\"a\"",
        "\"a\":",
        "\"\\u00e9\"",
        "\"\\ud800\"",
        "\"\\u12\"",
        "\"\\x\"",
        "\"\t\"",
        "0",
        "1",
        "-",
        "01",
        "1.",
        "1.5",
        "1e",
        "1e5",
        "1E+2",
        "-0",
        "18446744073709551616",
        "1e999",
        "null",
        "nul",
        "true",
        "false",
        "\u{FEFF}",
        "{}",
        "[]",
        "[1,]",
        "{\"a\":1}",
        "'a'",
        "NaN",
        "{\"role\":\"user\",\"content\":",
        "{\"role\": \"assistant\", \"content\": ",
        "{\"type\":\"text\",\"text\":",
        "\"a\"},",
        "\"a\":\"b\",",
        "1234567,",
        "12345678,",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Whether serde_json takes it for JSON in passing over it.
fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// One that wants nothing.
struct Nothing;

impl Object for Nothing {
    fn member(&mut self, _: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        value.skip()
    }
}

proptest! {
    #[test]
    fn what_is_read_is_what_a_tree_has(tree in tree(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.unwrap();
        let mut read_all = Members::default();
        prop_assert_eq!(read(text.as_bytes(), &mut read_all), Ok(Shape::Object), "{}", text);
        let parsed: Tree = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read_all.0, members(parsed.as_object().unwrap()), "{}", text);
    }

    #[test]
    fn what_is_json_is_decided_as_by_serde(text in nearly_json(), wrap: bool) {
        let text = if wrap { format!("{{\"key\":{text}}}") } else { text };
        prop_assert_eq!(read(text.as_bytes(), &mut Nothing).is_ok(), is_json(text.as_bytes()), "{}", text);
    }

    #[test]
    fn a_broken_document_is_found_as_by_serde(tree in tree(), at: prop::sample::Index, byte in 0..128_u8, cut: bool) {
        let mut text = serde_json::to_vec(&tree).unwrap();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        prop_assert_eq!(read(&text, &mut Nothing).is_ok(), is_json(&text), "{}", String::from_utf8_lossy(&text));
    }
}

/// Messages as SDKs write them, with something else in a place or cut off there.
#[test]
fn usual_messages_are_read_as_any_others() {
    let usual = [
        r#"[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":[{"type":"text","text":"z"}]}]"#,
        r#"[{"role": "user", "content": "x"}, {"role": "assistant", "content": null}, {"type": "text", "text": "y", "a": 1}]"#,
        r#"[[{"role":"user","content":"x"}],{"role":"user","content":"x"}]"#,
    ];
    for messages in usual {
        let text = format!(r#"{{"k":{messages}}}"#).into_bytes();
        assert_eq!(read(&text, &mut Nothing), Ok(Shape::Object));
        for at in 0..text.len() {
            assert!(read(&text[..at], &mut Nothing).is_err());
            for byte in br#" x"\,:{}[]1"# {
                let mut other = text.clone();
                other[at] = *byte;
                let is_read = read(&other, &mut Nothing).is_ok();
                assert_eq!(is_read, is_json(&other), "{}", String::from_utf8_lossy(&other));
            }
        }
    }
}

#[test]
fn usual_messages_count_in_the_depth() {
    let text = br#"[[{"role":"user","content":"x"}]]"#;
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general enough over its lifetime"
    )]
    for (depth_limit, expected) in [(3, Ok(())), (2, Err(Unread::TooDeep)), (1, Err(Unread::TooDeep))] {
        assert_eq!(read_with(text, depth_limit, |value| value.skip()), expected, "{depth_limit}");
    }
}

#[test]
fn whole_numbers_of_any_length_are_passed_over() {
    for digits in 1..25 {
        for first in ["0", "1", "9"] {
            let number = format!("{first}{}", "0".repeat(digits - 1));
            for text in
                [format!("[{number},{number}]"), format!("[{number},:]"), format!("[{number}/,1,2,3,4]")]
            {
                let is_read = read(text.as_bytes(), &mut Nothing).is_ok();
                assert_eq!(is_read, is_json(text.as_bytes()), "{text}");
            }
        }
    }
}

#[test]
fn a_string_is_looked_at_to_its_end_wherever_that_is() {
    for len in 0..300 {
        for special in ["\\\"", "\\u0041", "\u{1f}", "\u{20}", "\u{7f}", "\u{80}"] {
            let text = format!("{{\"k\":\"{}{special}{}\"}}", "x".repeat(len), "y".repeat(40));
            assert_eq!(read(text.as_bytes(), &mut Nothing).is_ok(), is_json(text.as_bytes()), "{text}");
        }
    }
}

#[test]
fn numbers_are_told_apart_and_too_large_ones_are_none() {
    let read_leaf = |text: &'static str| Value(Scan::new(text.as_bytes())).leaf();
    for (text, expected) in [
        ("0", Leaf::Count(0)),
        ("18446744073709551615", Leaf::Count(u64::MAX)),
        ("18446744073709551616", Leaf::Number(18_446_744_073_709_552_000.0)),
        ("-1", Leaf::Number(-1.0)),
        ("1.5e1", Leaf::Number(15.0)),
    ] {
        assert_eq!(read_leaf(text), Ok(expected));
    }
    assert!(read_leaf("1e999").is_err());
}
