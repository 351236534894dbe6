use std::{collections::BTreeMap, sync::LazyLock};

use rcgen::{CertificateParams, KeyPair};

use super::{Folder, read_in};
use crate::config::{Config, Inheritance, Key, declare::Keys as _, sample, schema::Root};

/// The shipped file: another test compares this with what is committed.
static SAMPLE: LazyLock<String> = LazyLock::new(sample);

/// A folder in which the sample's certificate is.
fn folder() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.join("certs")).expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    folder.write("certs/server.pem", &certificate.self_signed(&key).expect("signed").pem());
    folder.write("certs/server.key", &key.serialize_pem());
    folder.write("certs/ca.pem", &certificate.self_signed(&key).expect("signed").pem());
    folder.write("first.key", "sk-first");
    folder.write("second", "sk-second");
    folder
}

/// The sample with the defaults in its comments written out.
fn with_defaults_written() -> String {
    let is_key = |line: &str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
    };
    let line = |line: &'static str| line.strip_prefix("# ").filter(|key| is_key(key)).unwrap_or(line);
    SAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// All that the file means; what it says is `redacted` and not part of that.
fn meaning(config: &Config) -> String {
    let Config { listeners, admin, server, log, upstreams, models, routes, clients, .. } = config;
    format!("{listeners:?} {admin:?} {server:?} {log:?} {upstreams:?} {models:?} {routes:?} {clients:?}")
}

#[test]
fn the_sample_is_sound() {
    let folder = folder();
    let config = read_in(&folder.0, &SAMPLE).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let warned: Vec<&str> = config.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warned, ["client.team-a.key"], "the sample's hash, which is to be replaced");
}

#[test]
fn the_defaults_it_tells_are_the_codes() {
    let folder = folder();
    let short = read_in(&folder.0, &SAMPLE).expect("sound");
    let text = with_defaults_written();
    let written = SAMPLE.lines().zip(text.lines()).filter(|(before, after)| before != after).count();
    assert!(written > 30, "only {written} defaults are told");
    let long = read_in(&folder.0, &text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(meaning(&short), meaning(&long));
}

/// Each example, alone, in place of the active line of its table that has the same key. What it needs beside it (a variable that is
/// set, another key left out) may be missing.
#[test]
fn its_examples_are_sound() {
    let folder = folder();
    let key_of = |line: &'static str| line.split_once(" = ").map_or("", |(key, _)| key);
    let mut count = 0;
    for (number, example) in SAMPLE.lines().enumerate().filter(|(_, line)| line.starts_with("# e.g. ")) {
        let example = example.trim_start_matches("# e.g. ");
        let section = SAMPLE.lines().take(number).filter(|line| line.starts_with('[')).count();
        let mut sections = 0;
        let text: String = SAMPLE.lines().enumerate().fold(String::new(), |text, (other, line)| {
            sections += usize::from(line.starts_with('['));
            let replaced = sections == section && key_of(line) == key_of(example);
            let line = if other == number { example } else { line };
            if replaced { text } else { text + line + "\n" }
        });
        let problems = read_in(&folder.0, &text).err().unwrap_or_default();
        let excused = |message: &str| {
            ["is set too", "has no meaning when", "is not set", "needs `per`", "is not for requests at once"]
                .iter()
                .any(|words| message.contains(words))
        };
        assert!(problems.iter().all(|problem| excused(&problem.message)), "{example}: {problems:#?}");
        count += 1;
    }
    assert!(count > 15, "only {count} examples");
}

#[test]
fn it_shows_every_key() {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = "";
    for line in SAMPLE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_start_matches('[');
            current = header.split(['.', ']']).next().unwrap_or_default();
        }
        sections.entry(current).or_default().push_str(&format!(" {line}\n"));
    }
    for section in Root::keys() {
        assert!(sections.contains_key(section.name), "[{}]", section.name);
        for key in section.inner() {
            is_shown(key, &sections[section.name], section.name);
        }
    }
}

/// A key of a table's own is shown with a value; one that is in an inline table is shown there or described.
fn is_shown(key: &Key, section: &str, path: &str) {
    let path = format!("{path}.{}", key.name);
    let shown = [format!(" {} = ", key.name), format!("- {}: ", key.name)];
    assert!(shown.iter().any(|text| section.contains(text)), "`{path}` is not shown");
    if key.meta.inheritance == Inheritance::None {
        key.inner().into_iter().for_each(|inner| is_shown(inner, section, &path));
    }
}
