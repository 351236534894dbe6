//! The committed pages are what the declarations generate. `SLUICEGATE_WRITE=1 cargo test --lib config::tests::generated` writes them.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use crate::config::{
    DefaultValue, Inheritance, Key, Secrecy, Shape,
    declare::Keys as _,
    generate::{SIZE, SPAN},
    problem::Complaint,
    reference, sample,
    schema::{Defaults, Root},
    size, span,
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
    // Limits add up.
    for declared in Defaults::keys().into_iter().filter(|key| key.name != "limits") {
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
