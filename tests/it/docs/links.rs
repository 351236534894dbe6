//! Links: each leads to a file of the repository, and to a heading that it has.

use std::collections::BTreeSet;

use super::page::{Page, all, manual, root};

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = all();
    let mut dead = Vec::new();
    for page in &pages {
        for link in page.links() {
            if let Some(why) = is_dead(page, &link.target, &pages) {
                dead.push(format!("{}:{}: {} {why}", page.path, link.line, link.target));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

fn is_dead(page: &Page, target: &str, pages: &[Page]) -> Option<&'static str> {
    if target.starts_with("https://") || target.starts_with("http://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
    if !root().join(&path).exists() {
        return Some("is not there");
    }
    // A page of the book cannot lead out of it. SECURITY.md is included in one.
    let is_book = page.path.starts_with("docs/") || page.path == "SECURITY.md";
    if is_book && path != page.path && !path.starts_with("docs/") {
        return Some("leads out of the book");
    }
    if heading.is_empty() {
        return None;
    }
    let other = pages.iter().find(|other| other.path == path);
    let found = other.is_some_and(|other| other.anchors().contains(heading));
    (!found).then_some("has no such heading")
}

/// `file` as the page at `from` names it, within the repository.
fn resolve(from: &str, file: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn the_summary_and_the_index_for_programs_list_every_page_once() {
    let pages: BTreeSet<String> = manual()
        .into_iter()
        .filter_map(|page| page.path.strip_prefix("docs/").map(str::to_owned))
        .filter(|path| path != "SUMMARY.md")
        .collect();
    for index in ["docs/SUMMARY.md", "docs/llms.txt"] {
        let listed: Vec<String> =
            Page::read(&root().join(index)).links().into_iter().map(|link| link.target).collect();
        let once: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(once.len(), listed.len(), "{index} lists a page twice");
        let expected: BTreeSet<String> = pages
            .iter()
            .filter(|path| *path != "index.md" || index.ends_with("SUMMARY.md"))
            .cloned()
            .collect();
        assert_eq!(once, expected, "{index}");
    }
}

/// What the README of a program should be: one screen or two.
#[test]
fn the_readme_is_short() {
    let readme = Page::read(&root().join("README.md"));
    let lines = readme.text.lines().count();
    assert!(lines <= 150, "{lines} lines");
    assert!(readme.text.contains("cargo test --locked"), "the command of .ci/run");
}
