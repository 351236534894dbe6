//! The table of clocks and resources names tests that exist, and each script that it names is a step of `.ci/release`.

use std::{fs, path::Path};

const TABLE: &str = include_str!("../resources/README.md");
const RELEASE: &str = include_str!("../../.ci/release");

/// The text of all Rust files below a folder of the project.
fn sources(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What the second column of the table of rules names.
fn named() -> impl Iterator<Item = &'static str> {
    let rules = TABLE.split_once("| rule |").unwrap().1;
    let cells = rules.lines().skip(2).filter_map(|row| row.split('|').nth(2));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(|name| name.trim_start_matches("--lib "))
}

#[test]
fn what_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests/it"), &mut all);
    let exists = |name: &str| {
        let last = name.trim_end_matches(':').rsplit("::").next().unwrap_or(name);
        let (test, file) = (format!("fn {last}("), format!("/{last}.rs"));
        all.iter().any(|(path, text)| text.contains(&test) || path.ends_with(&file))
    };
    let missing: Vec<_> =
        named().filter(|name| !root.join("tests/resources").join(name).is_file() && !exists(name)).collect();
    assert_eq!(missing, [""; 0]);
    assert!(named().count() > 30);
}

#[test]
fn every_script_is_run_before_a_release() {
    let steps = RELEASE.lines().find(|line| line.starts_with("for name in pause ")).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resources")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.contains('.') || name == "isolated" || name == "__pycache__" {
            continue;
        }
        assert!(steps.contains(&format!(" {name}")), "{name}");
        assert!(TABLE.contains(&format!("| `{name}` |")), "{name}");
    }
}
