//! The JSON Schema and the parser say the same, as far as a schema can: judged by a validator of JSON Schema that nobody here wrote, for every
//! text that the tests of the configuration read, and for every example in the documentation.

use std::{fs, path::Path, sync::LazyLock};

use jsonschema::Validator;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{SOUND, with};
use crate::config::{Config, Env, Problem, parse, sample, schema_json};

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft7::new(&schema_json()).expect("a schema"));

/// Mistakes that a schema cannot express, by a part of their message, and why it cannot.
const BEYOND_A_SCHEMA: &[(&str, &str)] = &[
    (
        "is missing",
        "where whether a key must be written depends on other keys; keys that must always be written are in the schema",
    ),
    ("is set too", "depends on another key"),
    ("has no meaning", "depends on another key"),
    ("is not used", "depends on another key"),
    ("names accounts, although", "depends on another key"),
    ("belongs to no certificate", "depends on another key"),
    ("is both set and removed", "depends on another key"),
    ("sets the header that carries the key", "depends on another key"),
    ("contains user info although", "depends on another key"),
    ("must not be above", "compares two values"),
    ("must not be below", "compares two values"),
    ("is in this list twice", "values are compared as they are meant, for example without regard to case"),
    ("is set twice", "header names are compared without regard to case"),
    ("has the same URL as an earlier target", "compares two values"),
    ("is the same key as", "compares two tables"),
    ("is already used by", "compares two tables"),
    ("matches the same requests as", "compares two tables"),
    ("requires a client key", "depends on another table"),
    (" is defined", "the name of a table that must exist"),
    ("is not set", "the environment"),
    ("uses the environment variable", "the environment"),
    ("ends with a path that the gateway appends", "the end of a URL"),
    (
        "is not a valid name of",
        "the rules for names of variables and credentials are no pattern of the file's",
    ),
    ("refers to", "the environment"),
    ("the file ", "another file"),
    ("certificate", "the content of a file"),
    ("private key", "the content of a file"),
    ("PEM", "the content of a file"),
    ("the certificate and the key", "the content of two files"),
    ("must be from 1ms", "a range of time spans, which are strings"),
    ("must be from 0s", "a range of time spans, which are strings"),
    ("must be from 1s", "a range of time spans, which are strings"),
    ("must be from 1KiB", "a range of sizes, which are strings"),
    ("must be from 8KiB", "a range of sizes, which are strings"),
    ("must be from 1MiB", "a range of sizes, which are strings"),
    ("to be counted", "a range of numbers in strings"),
    ("is not a valid name", "names that look like a key are refused, which is no pattern"),
    ("is not an IP address", "the grammar of addresses"),
    ("is not a loopback address", "depends on another key"),
    ("needs `token`", "depends on another key"),
    ("is not a URL", "the grammar of URLs"),
    ("must begin with", "the grammar of URLs and paths"),
    ("must not end with", "the grammar of paths"),
    ("must not have", "the grammar of URLs and paths"),
    ("has no host", "the grammar of URLs"),
    ("has invalid user info", "the grammar of URLs"),
    ("is an empty path", "the grammar of paths"),
    ("is not a host name", "the grammar of host names"),
    ("is not a DNS name", "the grammar of host names"),
    ("is not a method", "the grammar of methods"),
    ("is not an origin", "the grammar of origins"),
    ("stands for", "the grammar of origins"),
    ("is a method that is never forwarded", "a list of exceptions"),
    ("cannot be named here", "a list of exceptions among header names"),
    ("is not a valid header", "the grammar of headers"),
    ("is not the name of a model", "the grammar of model names"),
    ("is not the version of an API", "the grammar of versions"),
    ("is not the name of a deployment", "the grammar of names"),
    ("is not for a URL", "depends on another key"),
    ("is not the hash of a key", "a hash is a string; its message must not quote what may be a key"),
    ("stand for no model", "depends on the name of the table"),
    ("is the name of model.", "compares two tables"),
    ("has no models to list", "depends on another key"),
    ("is empty", "an empty string where a string is wanted"),
    ("is ambiguous", "the environment"),
    ("names no errors", "an empty table where a key is wanted, whichever it is"),
    ("has no text", "an empty table where a key is wanted, whichever it is"),
    ("changes nothing", "one of several keys is wanted"),
    ("is not an error code", "the grammar of codes"),
    ("is not a message", "a limit in bytes, and control characters"),
    ("has a placeholder", "the grammar of messages"),
    ("is for the same errors as", "compares two tables"),
    ("is not a time with its zone", "the grammar of times"),
    ("has more than", "a number of names"),
    ("is not the value of a tag", "a limit in bytes, and control characters"),
    ("looks like a key", "values that look like a key are refused, which is no pattern"),
    ("limits nothing", "depends on other keys"),
    ("needs `per`", "depends on another key"),
    ("is not for requests at once", "depends on other keys"),
    ("is not for periods of the calendar", "depends on another key"),
    ("is for limits by model", "depends on other keys"),
    ("a request either waits or goes on to another model", "depends on another key"),
    ("is not the name of a time zone", "the names of the database of time zones"),
    ("needs the prices of models", "depends on another table"),
    ("has no prices", "one of two keys is wanted"),
    ("is not a decimal number", "the grammar of numbers in strings"),
    ("has more than ", "a limit on decimals, or on the number of tables"),
    ("must be more than 0", "a range of numbers in strings"),
    ("is not the name of a currency", "the grammar of names"),
    ("is for the same input as", "compares two tables"),
    ("is a secret, and would be sent", "`request_headers` and `response_headers` are one declaration"),
];

/// Whether a schema can express what is wrong. Every message is of one kind or the other.
fn is_expressible(problem: &Problem) -> bool {
    let (message, path) = (&*problem.message, &*problem.path);
    if message == "is missing" {
        return is_always_required(path);
    }
    let is_type = [", not a ", ", not true or false", "is a secret in clear", "names a variable as another"];
    let is_word = message.starts_with("must be \"") || message.starts_with("must be a table or");
    let is_form =
        ["has a number without a unit", "has an unknown unit", "is not a time span", "is not a size"];
    let is_key = [
        "unknown key",
        "a name with a dot needs quotes",
        "must have exactly one of the keys",
        "is an empty list",
        "is written as a single table",
        "there are no messages in the language",
    ];
    if is_word || is_type.iter().chain(&is_form).chain(&is_key).any(|words| message.contains(words)) {
        return true;
    }
    if BEYOND_A_SCHEMA.iter().any(|(words, _)| message.contains(words)) {
        return false;
    }
    assert!(
        message.starts_with("must be from "),
        "{path}: {message}: can a schema express this? If not, add it to BEYOND_A_SCHEMA with the reason"
    );
    true
}

/// `url`, `key` and the like may be written in another way, and are not in the list `required` of the schema.
fn is_always_required(path: &str) -> bool {
    let names: Vec<&str> = path.split('.').map(|name| name.split('[').next().unwrap_or(name)).collect();
    matches!(
        names[..],
        ["listener" | "upstream" | "route"]
            | ["pricing", "model"]
            | ["pricing", "model", _, "tiers", "above"]
            | ["listener" | "admin", "address"]
            | ["route", _, "path" | "upstreams"]
            | ["route", _, "upstreams", "upstream"]
            | ["upstream", _, "targets" | "proxy", "url"]
            | ["upstream", _, "azure", "api_version"]
            | [.., "header"]
            | ["listener", "tls", "certificates", "certificate" | "key"]
    )
}

/// What the validator finds wrong, each with its place.
fn refusals(document: &DeTable<'_>) -> Vec<String> {
    let value = json_of_table(document);
    VALIDATOR.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The schema must refuse what has a mistake that it can express, and accept what the parser accepts.
pub(super) fn assert_agrees(text: &str, read: &Result<Config, Vec<Problem>>) {
    let Ok(document) = DeTable::parse(text) else { return };
    let refusals = refusals(document.get_ref());
    let problems = read.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    let expressible: Vec<&Problem> = problems.iter().filter(|problem| is_expressible(problem)).collect();
    let agrees = if problems.is_empty() {
        refusals.is_empty()
    } else {
        expressible.is_empty() || !refusals.is_empty()
    };
    assert!(agrees, "the schema finds {refusals:#?}, the parser {problems:#?} in\n{text}");
}

#[test]
fn the_schema_accepts_the_shipped_file_and_refuses_mistakes() {
    let mistakes = |text: &str| refusals(DeTable::parse(text).expect("TOML").get_ref());
    assert_eq!(mistakes(&sample()), Vec::<String>::new());
    assert_eq!(mistakes(SOUND), Vec::<String>::new());
    let wrong = [
        ("[route.openai]", "[route.openai]\nbody_limits = \"1MiB\"", "/route/openai: "),
        ("[upstream", "[server]\nthreads = 0\n[upstream", "/server/threads: "),
        ("[upstream", "[server]\nkeep_alive = \"75\"\n[upstream", "/server/keep_alive: "),
        ("[upstream", "[server]\nmax_buffered = \"1 PB\"\n[upstream", "/server/max_buffered: "),
        ("[upstream", "[log]\nlevel = \"loud\"\n[upstream", "/log/level: "),
        ("path = \"/v1\"\n", "", "/route/openai: "),
        ("key = { env", "keys = [{ env = \"A\", file = \"b\" }]\nx = { env", "/upstream/openai/keys/0: "),
        ("[route", "retry = true\n[route", "/upstream/openai/retry: "),
        ("upstreams = [\"openai\"]", "upstreams = []", "/route/openai/upstreams: "),
    ];
    for (from, to, place) in wrong {
        let found = mistakes(&with(from, to));
        assert!(found.iter().any(|one| one.starts_with(place)), "{to}: {found:?}");
    }
}

#[test]
fn every_example_of_the_documentation_is_judged_alike() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    collect(&root.join("docs"), &mut pages);
    collect(&root.join("deploy"), &mut pages);
    for page in pages {
        for block in blocks(&fs::read_to_string(&page).expect("a page")) {
            judge(&block);
        }
    }
    for file in ["gateway.toml", "systemd/gateway.toml"] {
        judge(&fs::read_to_string(root.join(file)).expect(file));
    }
}

/// In an environment in which every variable is set.
fn judge(text: &str) {
    let variable = |_: &str| Some("sk-example-0123456789".into());
    let read = parse(text, &Env::new("/nonexistent", &variable));
    assert_agrees(text, &read);
}

fn collect(folder: &Path, pages: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The blocks of TOML in a page of Markdown.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match &mut open {
            None if line.trim_start().starts_with("```toml") => open = Some(String::new()),
            None => {}
            Some(_) if line.trim_start().starts_with("```") => blocks.extend(open.take()),
            Some(block) => block.push_str(&format!("{line}\n")),
        }
    }
    blocks
}

fn json_of_table(table: &DeTable<'_>) -> Value {
    table.iter().map(|(name, value)| (name.get_ref().to_string(), json_of(value.get_ref()))).collect()
}

/// JSON has no dates; nothing in the file is one, and nothing is null.
fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Array(items) => items.iter().map(|item| json_of(item.get_ref())).collect(),
        DeValue::Table(table) => json_of_table(table),
        DeValue::Datetime(_) => Value::Null,
    }
}
