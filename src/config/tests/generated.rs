//! The committed pages are what the declarations generate. `SLUICEGATE_WRITE=1 cargo test --lib config::tests::generated` writes them.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::config::{
    DefaultValue, Inheritance, Key, Secrecy, Shape,
    declare::Keys as _,
    generate::{SIZE, SPAN},
    problem::Complaint,
    reference, sample,
    schema::{Defaults, Root},
    schema_json, size, span,
};

const COMMAND: &str = "SLUICEGATE_WRITE=1 cargo test --lib config::tests::generated";

/// Compares a file of the repository with what it should be, or writes it when asked to.
fn committed(path: &str, expected: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SLUICEGATE_WRITE").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, expected).expect(path);
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is not what the declarations say; run {COMMAND}");
}

#[test]
fn the_shipped_file_is_generated() {
    committed("gateway.toml", &sample());
}

#[test]
fn the_reference_page_is_generated() {
    committed("docs/configuration.md", &reference());
}

/// Every key with its path, and the key that it is in.
fn all_keys() -> Vec<(String, Key)> {
    fn walk(path: &str, keys: Vec<&Key>, all: &mut Vec<(String, Key)>) {
        for key in keys {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            all.push((path.clone(), key.clone()));
            walk(&path, key.inner(), all);
        }
    }
    let mut all = Vec::new();
    walk("", Root::keys().iter().collect(), &mut all);
    all
}

#[test]
fn every_key_is_documented_in_a_sentence_and_has_a_value_to_show() {
    for (path, key) in all_keys() {
        assert!(key.doc.ends_with('.') && key.doc.starts_with(char::is_uppercase), "{path}: {:?}", key.doc);
        assert!(!key.meta.since.is_empty(), "{path}");
        let is_value = matches!(key.default, DefaultValue::Value(_));
        let is_shown = is_value || !key.meta.example.is_empty() || !key.meta.shipped.is_empty();
        // What is in an inline table is shown by the table's own example, which another test reads.
        assert!(is_shown || path.matches('.').count() != 1, "{path} has neither a default nor an example");
        if let DefaultValue::Value(value) = &key.default {
            assert!(!value.contains('…'), "{path}: the default cannot be written");
        }
    }
}

#[test]
fn every_key_of_the_defaults_is_inherited_with_the_same_range() {
    let tables = Root::keys();
    let inner = |name: &str| tables.iter().find(|key| key.name == name).expect("a table").inner();
    for declared in Defaults::keys() {
        let overriding: Vec<&Key> = ["upstream", "route"]
            .into_iter()
            .flat_map(inner)
            .filter(|key| key.name == declared.name)
            .collect();
        assert!(!overriding.is_empty(), "nobody inherits defaults.{}", declared.name);
        for key in overriding {
            assert_eq!(key.meta.inheritance, Inheritance::Overrides, "{}", declared.name);
            assert_eq!(format!("{:?}", key.shape), format!("{:?}", declared.shape), "{}", declared.name);
        }
    }
}

/// A key in whose place a secret may be written is declared so.
#[test]
fn whatever_may_be_read_from_elsewhere_is_secret_or_a_certificate() {
    fn is_source(shape: &Shape) -> bool {
        match shape {
            Shape::Source(_) => true,
            Shape::List(item) => is_source(item),
            Shape::Either(shapes) => shapes.iter().any(is_source),
            _ => false,
        }
    }
    for (path, key) in all_keys() {
        let certificate = ["certificate", "client_ca", "ca"].contains(&key.name);
        let secret = key.meta.secrecy == Secrecy::Secret;
        assert!(!is_source(&key.shape) || certificate || secret, "{path} may hold a secret");
    }
}

#[test]
fn the_schema_accepts_the_shipped_file_and_refuses_mistakes() {
    let schema = schema_json();
    let mistakes = |text: &str| {
        let document = DeTable::parse(text).expect("TOML");
        let mut found = Vec::new();
        validate(&json_of_table(document.get_ref()), &schema, "", &mut found);
        found
    };
    assert_eq!(mistakes(&sample()), Vec::<String>::new());
    let wrong = [
        (
            "[route.openai]\n",
            "[route.openai]\nbody_limits = \"1MiB\"\n",
            "route.openai.body_limits: not a key",
        ),
        ("[server]\n", "[server]\nthreads = 0\n", "server.threads: too small"),
        ("[server]\n", "[server]\nkeep_alive = \"75\"\n", "server.keep_alive: wrong form"),
        ("[server]\n", "[server]\nmax_buffered = \"1 PB\"\n", "server.max_buffered: wrong form"),
        ("[log]\n", "[log]\nlevel = \"loud\"\n", "log.level: none of the words"),
        ("path = \"/v1\"\n", "", "route.openai: lacks path"),
        (
            "[upstream.openai]\n",
            "[upstream.openai]\nkeys = [{ env = \"A\", file = \"b\" }]\n",
            "upstream.openai.keys[0]: too many keys",
        ),
        ("[upstream.openai]\n", "[upstream.openai]\nretry = true\n", "upstream.openai.retry: fits nothing"),
    ];
    for (from, to, expected) in wrong {
        let text = sample().replacen(from, to, 1);
        assert_eq!(mistakes(&text), [expected], "{to}");
    }
}

proptest! {
    #[test]
    fn the_patterns_of_the_schema_are_what_the_parsers_take(
        time in SPAN.trim_matches(['^', '$']),
        bytes in SIZE.trim_matches(['^', '$']),
    ) {
        let is_read = |read: Result<(), Complaint>| read.is_ok() || read.is_err_and(|error| error.message.contains("to be counted"));
        prop_assert!(is_read(span::parse(&time).map(|_| ())), "{time}");
        prop_assert!(is_read(size::parse(&bytes).map(|_| ())), "{bytes}");
    }
}

fn json_of_table(table: &DeTable<'_>) -> Value {
    table.iter().map(|(name, value)| (name.get_ref().to_string(), json_of(value.get_ref()))).collect()
}

fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(integer) => integer.as_str().parse::<i64>().expect("decimal").into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Array(items) => items.iter().map(|item| json_of(item.get_ref())).collect(),
        DeValue::Table(table) => json_of_table(table),
        other => panic!("{other:?} is in no configuration"),
    }
}

/// As much of JSON Schema as the generated one uses.
fn validate(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = |schema: &&Value| {
            let mut found = Vec::new();
            validate(value, schema, path, &mut found);
            found.is_empty()
        };
        if !any.iter().any(|schema| fits(&schema)) {
            found.push(format!("{path}: fits nothing"));
        }
        return;
    }
    let mut wrong = |what: &str| found.push(format!("{path}: {what}"));
    match schema["type"].as_str().expect("a type") {
        "boolean" if value.is_boolean() => {}
        "integer" if value.is_i64() => {
            if value.as_u64().is_none_or(|number| number < schema["minimum"].as_u64().expect("a minimum")) {
                wrong("too small");
            } else if value.as_u64() > schema["maximum"].as_u64() {
                wrong("too large");
            }
        }
        "string" if value.is_string() => {
            let text = value.as_str().expect("a string");
            if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
                wrong("none of the words");
            }
            if let Some(pattern) = schema["pattern"].as_str()
                && !matches(pattern, text)
            {
                wrong("wrong form");
            }
        }
        "array" if value.is_array() => {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                validate(item, &schema["items"], &format!("{path}[{index}]"), found);
            }
        }
        "object" if value.is_object() => validate_object(value, schema, path, found),
        other => wrong(&format!("not a {other}")),
    }
}

/// The patterns describe what the parsers take; see the test above.
fn matches(pattern: &str, text: &str) -> bool {
    if pattern == SPAN { span::parse(text).is_ok() } else { pattern == SIZE && size::parse(text).is_ok() }
}

fn validate_object(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let object = value.as_object().expect("an object");
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(required) {
            found.push(format!("{path}: lacks {required}"));
        }
    }
    if schema["maxProperties"].as_u64().is_some_and(|most| object.len() as u64 > most) {
        found.push(format!("{path}: too many keys"));
    }
    for (name, value) in object {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => found.push(format!("{path}: not a key")),
            (Value::Null, Value::Null) => panic!("the schema says nothing of {path}"),
            (Value::Null, other) => validate(value, other, &path, found),
            (own, _) => validate(value, own, &path, found),
        }
    }
}
