//! Imports point down only. What may be written in one place alone is written there alone.

mod clock;
mod imports;
mod inside;
mod source;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use source::Source;

/// The rooms, from top to bottom. One imports from rows below its own.
const ROWS: [&[&str]; 7] = [
    &["main", "cli", "app"],
    &["listen", "admin", "simulator"],
    &["proxy"],
    &["snapshot", "exchange"],
    &["access", "accounts", "limit", "upstream", "cache", "tape", "body", "policy"],
    &["config", "telemetry", "store", "wait_queue"],
    &[
        "sse",
        "openai",
        "fault",
        "span",
        "key_digest",
        "outline",
        "coding",
        "pause",
        "websocket",
        "money",
        "priority",
    ],
];

/// Where a room imports from its own row.
const BESIDE: [(&str, &str); 15] = [
    ("main", "cli"),
    ("cli", "app"),
    ("admin", "listen"),
    ("upstream", "body"),
    ("policy", "access"),
    ("telemetry", "config"),
    ("store", "config"),
    ("store", "telemetry"),
    ("fault", "openai"),
    ("fault", "coding"),
    ("openai", "coding"),
    ("openai", "sse"),
    ("openai", "outline"),
    ("sse", "outline"),
    ("websocket", "outline"),
];

/// A file of the program, and the room that it is in.
struct File {
    path: PathBuf,
    room: String,
    source: Source,
}

impl File {
    /// Modules between it and the crate's root: 1 for a room's front page.
    fn depth(&self) -> usize {
        let names = self.path.components().count();
        if self.path.ends_with("mod.rs") { names - 1 } else { names }
    }

    /// The full paths that it imports or names, without `crate`.
    fn imports(&self) -> Vec<String> {
        let mut paths = self.source.paths("crate");
        if self.room == "main" {
            paths.extend(self.source.paths("sluicegate"));
        }
        paths
    }
}

fn row(room: &str) -> usize {
    ROWS.iter().position(|row| row.contains(&room)).unwrap_or_else(|| panic!("{room} is in no row"))
}

fn bottom() -> usize {
    ROWS.len() - 1
}

/// All of src/ but the map and what is compiled for tests alone.
fn program() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    assert!(files.len() > 50 && files.iter().any(|file| file.room == "main"), "src/ has not been read");
    files
}

fn collect(folder: &Path, root: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(&path, root, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let path = path.strip_prefix(root).unwrap().to_owned();
            let room = path.components().next().unwrap().as_os_str().to_str().unwrap();
            let room = room.strip_suffix(".rs").unwrap_or(room).to_owned();
            if room != "lib" {
                let source = Source::of(&fs::read_to_string(root.join(&path)).unwrap());
                files.push(File { path, room, source });
            }
        }
    }
}

/// Whether one room may import another.
fn may(from: &str, to: &str) -> bool {
    match from {
        _ if from == to => true,
        "simulator" => row(to) == bottom(),
        _ => row(from) < row(to) || BESIDE.contains(&(from, to)),
    }
}

#[test]
fn the_rows_are_kept() {
    for (from, to) in [("proxy", "body"), ("simulator", "sse"), ("policy", "access"), ("main", "fault")] {
        assert!(may(from, to), "{from} {to}");
    }
    let never = [
        ("body", "proxy"),
        ("simulator", "config"),
        ("access", "policy"),
        ("listen", "admin"),
        ("sse", "openai"),
    ];
    for (from, to) in never {
        assert!(!may(from, to), "{from} {to}");
    }
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for file in program() {
        for path in file.imports() {
            let to = path.split("::").next().unwrap();
            if !may(&file.room, to) {
                wrong.push(format!("src/{}: {} may not import {path}", file.path.display(), file.room));
            }
        }
        let up = file.source.most_supers();
        if up >= file.depth() {
            wrong.push(format!("src/{}: `super` leaves the room", file.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_beside_are_all_needed_and_make_no_circle() {
    let mut used = BTreeSet::new();
    for file in program() {
        for path in file.imports() {
            let to = path.split("::").next().unwrap();
            if row(&file.room) == row(to) && file.room != to {
                used.insert((file.room.clone(), to.to_owned()));
            }
        }
    }
    let listed = BESIDE.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(used, listed);
    let mut left: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in used {
        left.entry(to.clone()).or_default();
        left.entry(from).or_default().insert(to);
    }
    while !left.is_empty() {
        let end = left.iter().find(|(_, to)| to.is_empty()).map(|(room, _)| room.clone());
        let end = end.unwrap_or_else(|| panic!("a circle in {left:?}"));
        left.remove(&end);
        left.values_mut().for_each(|to| _ = to.remove(&end));
    }
}

#[test]
fn parts_know_no_configuration_and_nothing_beneath_the_snapshot_swaps() {
    let parts = row("body");
    for file in program() {
        let path = file.path.display();
        if row(&file.room) == parts {
            let config: Vec<_> =
                file.imports().into_iter().filter(|path| path.starts_with("config")).collect();
            assert!(config.is_empty(), "src/{path} reads {config:?}");
        }
        if row(&file.room) > row("snapshot") {
            for name in ["ArcSwap", "arc_swap"] {
                assert!(!file.source.names(name), "src/{path} names {name}");
            }
        }
    }
}

#[test]
fn one_room_writes_errors_and_one_writes_access_lines() {
    for file in program() {
        let path = file.path.display();
        if !["fault", "simulator"].contains(&&*file.room) {
            assert!(!file.source.writes_member("error"), "src/{path} writes error JSON");
        }
        if !["exchange", "telemetry"].contains(&&*file.room) {
            let lines: Vec<_> =
                file.imports().into_iter().filter(|path| path.starts_with("telemetry::access")).collect();
            assert!(lines.is_empty(), "src/{path} writes access lines: {lines:?}");
        }
    }
    // The rules would not be broken by a program that did neither.
    let has =
        |room: &str, look: fn(&File) -> bool| program().iter().any(|file| file.room == room && look(file));
    assert!(has("exchange", |file| file.imports().iter().any(|path| path.starts_with("telemetry::access"))));
    assert!(has("simulator", |file| file.source.writes_member("error")));
    assert!(has("proxy", |file| file.source.names("ArcSwap")));
}
