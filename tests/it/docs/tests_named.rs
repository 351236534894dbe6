//! Tests that pages name are there.

use std::path::Path;

/// The names in backquotes on a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with a line that names files, and tests in them.
fn missing(root: &Path, line: &str) -> Option<String> {
    let mut file: Option<String> = None;
    let is_name =
        |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte));
    for name in quoted(line.rsplit('|').nth(1)?).into_iter().filter(is_name) {
        if name.contains('/') {
            let path = root.join(name);
            if path.is_dir() {
                continue;
            }
            match std::fs::read_to_string(&path) {
                Ok(text) => file = Some(text),
                Err(_) => return Some(format!("{name}: no such file")),
            }
        } else if !file.as_ref()?.contains(&format!("fn {name}(")) {
            return Some(format!("{name}: no such test"));
        }
    }
    None
}

#[test]
fn every_test_in_the_tables_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for page in ["docs/explanation/limits.md", "docs/explanation/promises.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            named += quoted(line).len();
            assert_eq!(missing(root, line), None, "{page}: {line}");
        }
    }
    assert!(named > 60, "{named}");
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (line, problem) in [
        ("| a | `tests/it/docs/tests_named.rs` `a_test_that_is_not_there_is_noticed` |", None),
        ("| a | `tests/it/docs` |", None),
        (
            "| a | `tests/it/docs/tests_named.rs` `a_test_of_another_name` |",
            Some("a_test_of_another_name: no such test"),
        ),
        ("| a | `tests/it/nowhere.rs` |", Some("tests/it/nowhere.rs: no such file")),
    ] {
        assert_eq!(missing(root, line).as_deref(), problem, "{line}");
    }
}
