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
# Time spans are "250ms", "5s", "1m 30s", "2h", from 1ms to 7d unless another range is given; sizes are "64KiB", "32MiB", "1GB".
# Relative paths start at the folder of this file.
#
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
        let mut shown = Vec::new();
        for key in section.inner() {
            file.push('\n');
            show(&mut file, key, &mut shown);
        }
    }
    file
}

fn header(section: &Key) -> String {
    let name = section.name;
    match (&section.shape, name) {
        (Shape::List(_), _) => format!("[[{name}]]"),
        (Shape::Named(_), "client") => "[client.team-a]".to_owned(),
        (Shape::Named(_), "group") => "[group.research]".to_owned(),
        (Shape::Named(_), "limit") => "[limit.fair-use]".to_owned(),
        (Shape::Named(_), "model") => "[model.\"gpt-4o\"]".to_owned(),
        (Shape::Named(_), _) => format!("[{name}.openai]"),
        _ => format!("[{name}]"),
    }
}

/// Keys of inline tables are described once: where they are inherited from, and for the first of several tables that are alike,
/// which is in `shown` then.
fn show(file: &mut String, key: &Key, shown: &mut Vec<String>) {
    push(file, "# ", &[key.doc.to_owned(), facts(key)].join(" "));
    let keys = format!("{:?}", key.inner());
    if key.meta.inheritance != Inheritance::Overrides && !shown.contains(&keys) {
        inner(file, key, "#   ");
        shown.push(keys);
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
        let mut text = format!("- {}: {} {}", key.name, key.doc, facts(key));
        if let DefaultValue::Value(value) = &key.default {
            text.push_str(&format!(" Default: {value}."));
        }
        push(file, indent, &text);
        inner(file, key, &format!("{indent}  "));
    }
}

/// Range and default, as far as the line that shows the value does not tell them.
fn facts(key: &Key) -> String {
    let range = range(&key.shape).map(|range| sentence(&range));
    let default = match &key.default {
        DefaultValue::Required => Some("Required.".to_owned()),
        DefaultValue::Words(words) if words.starts_with("required") => Some(sentence(words)),
        DefaultValue::Words(words) => Some(format!("Default: {words}.")),
        DefaultValue::Value(_) => None,
    };
    let facts: Vec<String> = range.into_iter().chain(default).collect();
    facts.join(" ")
}

fn range(shape: &Shape) -> Option<String> {
    match shape {
        // The usual one is in the introduction.
        Shape::Span(least, most) if least == "1ms" && most == "7d" => None,
        Shape::Count(least, most) => Some(format!("from {least} to {most}")),
        Shape::Span(least, most) | Shape::Size(least, most) => Some(format!("from {least} to {most}")),
        Shape::Choice(words) if words.len() > 1 => Some(shape.words()),
        Shape::Either(shapes) => either(shapes),
        _ => None,
    }
}

fn either(shapes: &[Shape]) -> Option<String> {
    let part = |shape: &Shape| match shape {
        Shape::Table(_) => Some("a table".to_owned()),
        Shape::Span(..) => {
            range(shape).map(|range| format!("a time span {range}")).or(Some("a time span".to_owned()))
        }
        Shape::Choice(_) => Some(shape.words()),
        Shape::Text(what) => Some((*what).to_owned()),
        _ => None,
    };
    let parts: Option<Vec<String>> = shapes.iter().map(part).collect();
    parts.map(|parts| parts.join(" or "))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// Continued lines of an item are indented to its text.
fn push(file: &mut String, indent: &str, text: &str) {
    let continued = if text.starts_with("- ") { "  " } else { "" };
    let mut prefix = String::new();
    for line in wrapped(text, WIDTH - indent.len() - continued.len()) {
        file.push_str(indent);
        file.push_str(&prefix);
        file.push_str(&line);
        file.push('\n');
        continued.clone_into(&mut prefix);
    }
}
