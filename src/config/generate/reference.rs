//! `docs/configuration.md`.

use std::fmt::Write as _;

use crate::config::{
    declare::{DefaultValue, Effect, Inheritance, Key, Keys as _, Secrecy, Shape},
    schema::{Root, Source},
};

const INTRODUCTION: &str = "\
<!-- Generated from the declarations in src/config/schema. Do not edit this page; write it with
     SLUICEGATE_WRITE=1 cargo test --lib config::tests::generated -->

# Configuration reference

Sluicegate reads one TOML file, `gateway.toml`. `sluicegate check` reports every problem in it at once. A change takes effect when the
file is saved; a file with a mistake changes nothing, and the log says what is wrong.

**Time spans** are strings such as `\"250ms\"`, `\"5s\"`, `\"1m 30s\"`, `\"2h\"` or `\"7d\"`. **Sizes** are strings such as `\"64KiB\"`, `\"32MiB\"` or
`\"1GB\"`. **Names** of upstreams, routes and clients have at most 64 letters, digits, `-`, `_` and `.`. Relative paths start at the folder of
the file.

**Secrets** are never written in the file. A key that holds a secret says where it is to be read from, and PEM files may be given the same
way:

";

/// The reference page, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for key in Source::keys() {
        let _infallible = writeln!(page, "- `{{ {} = \"…\" }}`: {}", key.name, key.doc);
    }
    for section in Root::keys() {
        let _infallible = write!(page, "\n## `{}`\n\n{}\n", header(&section), section.doc);
        for key in section.inner() {
            describe(&mut page, key, section.name);
        }
    }
    page
}

fn header(section: &Key) -> String {
    match section.shape {
        Shape::List(_) => format!("[[{}]]", section.name),
        Shape::Named(_) => format!("[{}.NAME]", section.name),
        _ => format!("[{}]", section.name),
    }
}

fn describe(page: &mut String, key: &Key, above: &str) {
    let path = format!("{above}.{}", key.name);
    let _infallible = write!(page, "\n### `{path}`\n\n{}\n\n", key.doc);
    for fact in facts(key) {
        let _infallible = writeln!(page, "- {fact}");
    }
    // Documented where they are inherited from.
    if key.meta.inheritance == Inheritance::Overrides {
        return;
    }
    for inner in key.inner() {
        describe(page, inner, &path);
    }
}

fn facts(key: &Key) -> Vec<String> {
    let mut facts = vec![format!("Type: {}", key.shape.words())];
    facts.push(match &key.default {
        DefaultValue::Required => "Required".to_owned(),
        DefaultValue::Value(value) => format!("Default: `{value}`"),
        DefaultValue::Words(words) if words.starts_with("required") => words.replacen('r', "R", 1),
        DefaultValue::Words(words) => format!("Default: {words}"),
    });
    let shipped = [key.meta.shipped];
    let examples = key.meta.example.iter().chain(&shipped).filter(|example| !example.is_empty());
    facts.extend(examples.map(|example| format!("Example: `{} = {example}`", key.name)));
    facts.extend(inheritance(key.meta.inheritance).map(str::to_owned));
    facts.extend(secrecy(key.meta.secrecy).map(str::to_owned));
    facts.push(effect(key.meta.effect).to_owned());
    facts.push(format!("Since {}", key.meta.since));
    facts
}

fn inheritance(inheritance: Inheritance) -> Option<&'static str> {
    match inheritance {
        Inheritance::None => None,
        Inheritance::Overrides => Some("Inheritance: overrides the inherited value (of a table: key by key)"),
        Inheritance::AddsUp => Some("Inheritance: applies together with the inherited values"),
    }
}

fn secrecy(secrecy: Secrecy) -> Option<&'static str> {
    match secrecy {
        Secrecy::Public => None,
        Secrecy::Secret => Some("Secret: masked in `/config`"),
        Secrecy::Headers => {
            Some("Values of headers whose name suggests a credential are masked in `/config`")
        }
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::NextRequest => "A change takes effect with the next request",
        Effect::NewConnections => "A change takes effect with the next client connection",
        Effect::Restart => "A change takes effect after a restart",
    }
}
