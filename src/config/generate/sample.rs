//! The shipped `gateway.toml`: every key with its documentation, and its default or an example.

use super::wrapped;
use crate::config::{
    declare::{DefaultValue, Inheritance, Key, Keys as _, Shape},
    schema::Root,
};

/// Characters of a comment line, its `# ` included.
const WIDTH: usize = 120;

const INTRODUCTION: &str = r##"# The configuration of Sluicegate. `sluicegate check` reports every problem in it at once.
#
#   # key = value         shows a default: writing it changes nothing.
#   # e.g. key = value    shows an example of a key that is not set by default.
#
# Time spans are "250ms", "5s", "1m 30s", "2h"; sizes are "64KiB", "32MiB", "1GB". Relative paths start at the folder of this file.
# Secrets are never written here. Say where a secret is to be read from: { env = "NAME" }, { file = "path" } or
# { credential = "name" } (systemd's LoadCredential=). PEM files may be given the same way.
#
# This file is generated from the declarations in src/config/schema, and so is docs/configuration.md, which says more of each key.
"##;

/// The text of the shipped `gateway.toml`.
#[must_use]
pub fn sample() -> String {
    let mut file = INTRODUCTION.to_owned();
    for section in Root::keys() {
        file.push('\n');
        push(&mut file, "# ", &format!("--- {} ---", section.name));
        push(&mut file, "# ", section.doc);
        file.push('\n');
        file.push_str(&header(&section));
        file.push('\n');
        for key in section.inner() {
            file.push('\n');
            show(&mut file, key);
        }
    }
    file
}

fn header(section: &Key) -> String {
    let name = section.name;
    match (&section.shape, name) {
        (Shape::List(_), _) => format!("[[{name}]]"),
        (Shape::Named(_), "client") => "[client.team-a]".to_owned(),
        (Shape::Named(_), _) => format!("[{name}.openai]"),
        _ => format!("[{name}]"),
    }
}

fn show(file: &mut String, key: &Key) {
    push(file, "# ", &format!("{} {}", key.doc, facts(key)));
    // Documented where they are inherited from.
    if key.meta.inheritance != Inheritance::Overrides {
        inner(file, key, "#   ");
    }
    let Key { name, meta, .. } = key;
    if !meta.shipped.is_empty() {
        file.push_str(&format!("{name} = {}\n", meta.shipped));
    }
    if let DefaultValue::Value(value) = &key.default {
        file.push_str(&format!("# {name} = {value}\n"));
    }
    for example in meta.example {
        file.push_str(&format!("# e.g. {name} = {example}\n"));
    }
}

/// The keys of a table that is written in one line.
fn inner(file: &mut String, key: &Key, indent: &str) {
    for key in key.inner() {
        let value = match &key.default {
            DefaultValue::Value(value) => format!(" (default: {value})"),
            DefaultValue::Required | DefaultValue::Words(_) => String::new(),
        };
        push(file, indent, &format!("- {}: {} {}{value}", key.name, key.doc, facts(key)));
        inner(file, key, &format!("{indent}  "));
    }
}

/// Range and default, as far as the line that shows the value does not tell them.
fn facts(key: &Key) -> String {
    let mut facts = match range(&key.shape) {
        Some(range) => format!("{range}."),
        None => String::new(),
    };
    match &key.default {
        DefaultValue::Required => facts.push_str(" Required."),
        DefaultValue::Words(words) if words.starts_with("required") => {
            facts.push_str(&format!(" R{}.", words.trim_start_matches('r')));
        }
        DefaultValue::Words(words) => facts.push_str(&format!(" Default: {words}.")),
        DefaultValue::Value(_) => {}
    }
    facts.trim_start().to_owned()
}

fn range(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Count(least, most) => Some(format!("From {least} to {most}")),
        Shape::Span(least, most) | Shape::Size(least, most) => Some(format!("From {least} to {most}")),
        Shape::Choice(_) => Some(format!("One of: {}", shape.words())),
        Shape::Either(shapes) => {
            let all: Vec<String> = shapes.iter().filter_map(range).collect();
            (!all.is_empty()).then(|| all.join(", or "))
        }
        _ => None,
    }
}

fn push(file: &mut String, indent: &str, text: &str) {
    for line in wrapped(text, WIDTH - indent.len()) {
        file.push_str(indent);
        file.push_str(&line);
        file.push('\n');
    }
}
