//! The book, built with the mdBook that `docs/requirements.txt` pins.

use std::{fs, path::Path, process::Command};

use super::page::{manual, root};
use crate::sdk::packages;

#[test]
fn mdbook_builds_every_page() {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("book");
    let _ = fs::remove_dir_all(&output);
    let mdbook = packages::mdbook();
    let ran =
        Command::new(mdbook).arg("build").arg(root().join("docs")).arg("--dest-dir").arg(&output).output();
    let ran = ran.unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(ran.status.success() && !said.contains("ERROR") && !said.contains("WARN"), "{said}");
    for page in manual() {
        let Some(path) = page.path.strip_prefix("docs/").filter(|path| *path != "SUMMARY.md") else {
            continue;
        };
        let html = fs::read_to_string(output.join(path).with_extension("html"));
        let html = html.unwrap_or_else(|error| panic!("{path}: {error}"));
        // Every anchor of the page is one of the book, so a link that holds in the repository holds in the book.
        let missing: Vec<String> =
            page.anchors().into_iter().filter(|anchor| !html.contains(&format!("id=\"{anchor}\""))).collect();
        assert!(missing.is_empty(), "{path}: {missing:?}");
    }
}
