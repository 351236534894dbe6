//! The rules inside a room: its files import each other without a circle, a type's methods are in one file, and the parts of `proxy` are
//! in the order of a request.

use std::path::Path;

use super::{File, imports::Room, program, source::Source};

/// The rooms without an import circle between their files.
const WITHOUT_CIRCLES: &[&str] = &["openai", "proxy", "simulator"];

/// The rooms in which all inherent `impl` blocks of a type are in one file.
const METHODS_IN_ONE_FILE: &[&str] = &["proxy", "simulator"];

/// The parts of `proxy`, each a folder, and which of the others each may import.
const PARTS: [(&str, &[&str]); 6] = [
    ("arrival", &[]),
    ("intake", &["arrival"]),
    ("admission", &["arrival", "intake"]),
    ("attempts", &["arrival", "intake", "admission", "delivery"]),
    ("delivery", &[]),
    ("tunnel", &["arrival", "intake", "admission", "attempts", "delivery"]),
];

#[test]
fn there_is_no_import_circle_inside_these_rooms() {
    let files = program();
    for name in WITHOUT_CIRCLES {
        let circles = room(&files, name).circles();
        assert!(circles.is_empty(), "src/{name}: {}", circles.join("\n"));
    }
}

#[test]
fn the_methods_of_a_type_are_in_one_file() {
    let files = program();
    for name in METHODS_IN_ONE_FILE {
        let scattered = room(&files, name).scattered_impls();
        assert!(scattered.is_empty(), "src/{name}: {scattered:#?}");
    }
}

#[test]
fn the_parts_of_proxy_are_in_the_order_of_a_request() {
    let proxy = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy");
    for (part, _) in PARTS {
        assert!(proxy.join(part).is_dir(), "src/proxy/{part} is missing");
    }
    let files = program();
    let wrong = against_the_order(&room(&files, "proxy"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The files of the program that are in this room.
fn room<'a>(files: &'a [File], name: &str) -> Room<'a> {
    let inside: Vec<_> = files.iter().filter(|file| file.room == name).collect();
    assert!(inside.len() > 5, "src/{name} has not been read");
    Room::new(inside.into_iter().map(|file| (file.path.to_str().unwrap(), &file.source)))
}

/// The imports inside `proxy` that go against the order of its parts.
fn against_the_order(proxy: &Room<'_>) -> Vec<String> {
    let imports = proxy.imports();
    let pairs = imports.iter().flat_map(|(from, to)| to.iter().map(move |(to, names)| (from, to, names)));
    let wrong = pairs.filter(|(from, to, _)| !may_import(from, to));
    wrong.map(|(from, to, names)| format!("src/{from} may not import {names:?} of src/{to}")).collect()
}

/// Whether one file of `proxy` may import another. The ladder (mod.rs) imports everything and is imported by nothing; the files beside it
/// are imported by every part, and import none.
fn may_import(from: &str, to: &str) -> bool {
    match (part(from), part(to)) {
        _ if from == "proxy/mod.rs" => true,
        _ if to == "proxy/mod.rs" => false,
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(from), Some(to)) => {
            let allowed = PARTS.iter().find(|(part, _)| *part == from);
            from == to || allowed.is_some_and(|(_, others)| others.contains(&to))
        }
    }
}

/// The part of `proxy` that a file is in; none for the files beside the parts.
fn part(path: &str) -> Option<&str> {
    let (folder, _) = path.strip_prefix("proxy/")?.split_once('/')?;
    Some(folder)
}

/// Made-up files, by their paths below `src`.
fn made_up(files: &[(&'static str, &str)]) -> Vec<(&'static str, Source)> {
    files.iter().map(|(path, text)| (*path, Source::of(text))).collect()
}

fn made_up_room<'a>(files: &'a [(&'static str, Source)]) -> Room<'a> {
    Room::new(files.iter().map(|(path, source)| (*path, source)))
}

#[test]
fn a_circle_is_found_with_what_ties_it() {
    let files = made_up(&[
        ("room/mod.rs", "mod a; mod b; mod c; use a::A; fn ladder(a: A) {}"),
        ("room/a.rs", "use super::b::B; pub struct A(B);"),
        ("room/b.rs", "use super::c; pub struct B; fn f() { c::g() }"),
        ("room/c.rs", "pub fn g() { crate::room::a::A::new() }"),
    ]);
    let circles = made_up_room(&files).circles();
    let [circle] = &circles[..] else { panic!("{circles:#?}") };
    for tie in [
        "a circle of 3 files:",
        r#"room/a.rs -> room/b.rs: {"super::b::B"}"#,
        r#"room/b.rs -> room/c.rs: {"super::c::g"}"#,
        r#"room/c.rs -> room/a.rs: {"crate::room::a::A::new"}"#,
    ] {
        assert!(circle.contains(tie), "{circle}");
    }
}

#[test]
fn a_front_page_is_a_file_too() {
    let files = made_up(&[
        ("room/mod.rs", "mod a; pub struct Options; pub fn start() { a::run() }"),
        ("room/a.rs", "use super::Options; pub fn run() {}"),
    ]);
    let circles = made_up_room(&files).circles();
    assert!(circles.len() == 1 && circles[0].contains(r#"room/a.rs -> room/mod.rs: {"super::Options"}"#));
}

#[test]
fn reexports_and_modules_lead_to_the_file_that_defines() {
    // All but one of these are imported from where they are defined, so nothing leads back to `part/mod.rs` or `mod.rs`.
    let files = made_up(&[
        (
            "room/mod.rs",
            "mod leaf; mod part; mod top; pub use leaf::Leaf; pub(crate) use part::*; use top::go;",
        ),
        ("room/leaf.rs", "use std::fmt; pub struct Leaf; impl fmt::Display for Leaf {}"),
        (
            "room/part/mod.rs",
            "mod deep; pub mod wide; pub use deep::Deep as Renamed; pub fn own() { wide::w() }",
        ),
        ("room/part/deep.rs", "use crate::room::Leaf; use crate::other::X; pub struct Deep(Leaf, X);"),
        ("room/part/wide.rs", "use super::super::{part::Renamed, leaf}; pub fn w(x: Renamed) { leaf::Leaf }"),
        (
            "room/top.rs",
            "use super::part; pub fn go() { part::own(); part::Renamed::new(); super::part::wide::w() }",
        ),
    ]);
    let room = made_up_room(&files);
    assert_eq!(room.circles(), Vec::<String>::new());
    let imports = room.imports();
    let of = |file: &str| imports[file].keys().cloned().collect::<Vec<_>>();
    assert_eq!(of("room/mod.rs"), ["room/top.rs"], "a re-export is no import");
    assert_eq!(of("room/part/deep.rs"), ["room/leaf.rs"]);
    assert_eq!(of("room/part/wide.rs"), ["room/leaf.rs", "room/part/deep.rs"]);
    assert_eq!(of("room/top.rs"), ["room/part/deep.rs", "room/part/mod.rs", "room/part/wide.rs"]);
    assert!(!imports.contains_key("room/leaf.rs"));
}

#[test]
fn methods_in_two_files_are_found() {
    let files = made_up(&[
        ("room/mod.rs", "mod a; mod b; mod c; pub use a::A;"),
        ("room/a.rs", "pub struct A; impl A {} impl A {} pub struct Same; impl Same {}"),
        ("room/b.rs", "use super::A; impl Default for A {} struct Same; impl Same {}"),
        ("room/c.rs", "impl super::a::A { fn more() {} }"),
    ]);
    let scattered = made_up_room(&files).scattered_impls();
    assert_eq!(scattered, [r#"A of room/a.rs: {"room/a.rs", "room/c.rs"}"#]);
    assert!(made_up_room(&files[..3]).scattered_impls().is_empty());
}

#[test]
fn the_order_of_the_parts_is_kept() {
    let paths = |part: &str| format!("proxy/{part}/x.rs");
    for (from, to, may) in [
        ("intake", "arrival", true),
        ("admission", "arrival", true),
        ("admission", "intake", true),
        ("attempts", "arrival", true),
        ("attempts", "intake", true),
        ("attempts", "admission", true),
        ("attempts", "delivery", true),
        ("arrival", "intake", false),
        ("arrival", "admission", false),
        ("arrival", "attempts", false),
        ("arrival", "delivery", false),
        ("intake", "admission", false),
        ("intake", "attempts", false),
        ("intake", "delivery", false),
        ("admission", "attempts", false),
        ("admission", "delivery", false),
        ("delivery", "arrival", false),
        ("delivery", "intake", false),
        ("delivery", "admission", false),
        ("delivery", "attempts", false),
    ] {
        assert_eq!(may_import(&paths(from), &paths(to)), may, "{from} {to}");
    }
    for (part, _) in PARTS {
        let file = paths(part);
        assert!(may_import(&file, &format!("proxy/{part}/mod.rs")) && may_import(&file, "proxy/context.rs"));
        assert!(may_import("proxy/mod.rs", &file) && !may_import(&file, "proxy/mod.rs"));
        assert!(!may_import("proxy/context.rs", &file), "what every part may import imports no part");
    }
    assert!(may_import("proxy/context.rs", "proxy/gateway.rs"));
}

#[test]
fn an_import_against_the_order_is_found_through_a_reexport() {
    let files = made_up(&[
        ("proxy/mod.rs", "mod arrival; mod attempts; mod context; use arrival::route; use attempts::Send;"),
        ("proxy/context.rs", "pub struct Context;"),
        ("proxy/arrival/mod.rs", "mod route; pub use route::route;"),
        (
            "proxy/arrival/route.rs",
            "use crate::proxy::{attempts::Send, context::Context}; pub fn route(c: Context) {}",
        ),
        ("proxy/attempts/mod.rs", "mod send; pub use send::Send;"),
        (
            "proxy/attempts/send.rs",
            "use super::super::{arrival, context::Context}; pub struct Send; fn f() { arrival::route() }",
        ),
    ]);
    assert_eq!(
        against_the_order(&made_up_room(&files)),
        [
            r#"src/proxy/arrival/route.rs may not import {"crate::proxy::attempts::Send"} of src/proxy/attempts/send.rs"#
        ]
    );
}
