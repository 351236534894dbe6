//! The reference names what the program has, and nothing else. (The pages of configuration keys, error codes, metrics and the command line
//! are generated; their tests are beside the generators.)

use std::{collections::BTreeSet, fs};

use super::page::{Page, manual, root};

/// The names in the first column of the table under a heading.
fn column(page: &Page, heading: &str) -> BTreeSet<String> {
    let text = format!("\n{}", page.text);
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n#").next().unwrap();
    section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

/// The keys that a part of the source writes, each as `key!("NAME")`.
fn written(part: &str) -> BTreeSet<String> {
    let keys = part.split("key!(\"").skip(1);
    keys.map(|behind| behind.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn the_page_of_the_log_names_every_field() {
    let source = fs::read_to_string(root().join("src/telemetry/access.rs")).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let attempt = source.find("impl AttemptLine<'_>").unwrap();
    let line = source.find("impl AccessLine<'_>").unwrap();
    assert!(attempt < line);
    let log = Page::read(&root().join("docs/log.md"));
    assert_eq!(
        column(&log, "### Fields"),
        written(&source[line..]),
        "docs/log.md, the fields of an access line"
    );
    assert_eq!(
        column(&log, "### Attempts"),
        written(&source[attempt..line]),
        "docs/log.md, the members of an attempt"
    );
}

/// A name with this beginning is a metric's, wherever it stands.
#[test]
fn no_page_names_a_metric_that_there_is_not() {
    let known = column(&Page::read(&root().join("docs/metrics.md")), "# Metrics");
    let mut unknown = Vec::new();
    for page in manual() {
        for name in names(&page.text, "sluicegate_") {
            let base = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_package = name.starts_with("sluicegate_0");
            if !is_package && !known.contains(&name) && !base.is_some_and(|base| known.contains(base)) {
                unknown.push(format!("{}: {name}", page.path));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

fn names<'t>(text: &'t str, beginning: &'t str) -> impl Iterator<Item = String> + 't {
    text.match_indices(beginning).map(|(start, _)| {
        text[start..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
    })
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Version {version}.")), "README.md");
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert!(newest.starts_with(version), "CHANGELOG.md: {newest}");
    for page in manual() {
        for (start, _) in page.text.match_indices("sluicegate_") {
            let name: String = page.text[start..]
                .chars()
                .take_while(|letter| !letter.is_whitespace() && *letter != '`')
                .collect();
            if name.ends_with(".deb") {
                assert_eq!(name, format!("sluicegate_{version}-1_amd64.deb"), "{}", page.path);
            }
        }
    }
}
