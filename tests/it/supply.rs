//! What the program is built from is what deny.toml says: from where, under which licences, and what not.

use std::{
    collections::{BTreeMap, BTreeSet},
    env::consts::ARCH,
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;
use toml::Table;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What bytes pass through, and what keys are read and compared with.
const ONE_VERSION: [&str; 11] = [
    "aws-lc-rs",
    "bytes",
    "h2",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "rustls",
    "rustls-webpki",
    "serde_json",
    "tokio",
];

/// All that is not Rust.
const NATIVE: [&str; 3] = ["aws-lc-rs", "aws-lc-sys", "tikv-jemalloc-sys"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn toml(name: &str) -> Table {
    fs::read_to_string(root().join(name)).unwrap().parse().unwrap()
}

fn words<'t>(table: &'t Table, section: &str, key: &str) -> BTreeSet<&'t str> {
    table[section][key].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages that are built for Linux, for tests and build scripts too. The tree knows which; the metadata has some more, that
/// only a feature nobody asked for would build.
fn packages() -> Vec<Value> {
    let target = format!("{ARCH}-unknown-linux-gnu");
    let tree = cargo(&[
        "tree",
        "--locked",
        "--edges=normal,build,dev",
        "--prefix=none",
        "--format={p}",
        "--target",
        &target,
    ]);
    let built: BTreeSet<_> = tree.lines().map(|line| words_of(line, 2)).collect();
    let all: Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform",
        &target,
    ]))
    .unwrap();
    let is_built = |package: &&Value| {
        built.contains(&format!("{} v{}", name(package), package["version"].as_str().unwrap()))
    };
    let packages: Vec<_> = all["packages"].as_array().unwrap().iter().filter(is_built).cloned().collect();
    assert_eq!(packages.len(), built.len(), "cargo's two lists differ");
    packages
}

fn words_of(line: &str, count: usize) -> String {
    line.split(' ').take(count).collect::<Vec<_>>().join(" ")
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn everything_comes_from_the_registry_with_a_checksum() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        for package in toml(lock)["package"].as_array().unwrap() {
            let name = package["name"].as_str().unwrap();
            if name.starts_with("sluicegate") {
                continue;
            }
            let source = package.get("source").and_then(toml::Value::as_str);
            assert_eq!(source, Some(CRATES_IO), "{name} in {lock}");
            let checksum = package.get("checksum").and_then(toml::Value::as_str);
            assert!(checksum.is_some_and(|sum| sum.len() == 64), "{name} in {lock} has no checksum");
        }
    }
    let deny = toml("deny.toml");
    let registries = words(&deny, "sources", "allow-registry");
    assert!(registries.iter().map(|url| format!("registry+{url}")).eq([CRATES_IO]));
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let versions = |lock: &str| {
        let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
        for package in toml(lock)["package"].as_array().unwrap() {
            let [name, version] = ["name", "version"].map(|key| package[key].as_str().unwrap().to_owned());
            versions.entry(name).or_default().insert(version);
        }
        versions
    };
    let shipped = versions("Cargo.lock");
    for (name, fuzzed) in versions("fuzz/Cargo.lock") {
        if let Some(shipped) = shipped.get(&name) {
            assert!(
                fuzzed.is_subset(shipped),
                "{name}: {fuzzed:?} in fuzz/Cargo.lock, {shipped:?} in Cargo.lock"
            );
        }
    }
}

#[test]
fn licences_are_those_that_are_allowed() {
    let deny = toml("deny.toml");
    let allowed = words(&deny, "licenses", "allow");
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        let allowed = &allowed | &exceptions(&deny, name(&package));
        assert!(is_allowed(licence, &allowed), "{}: {licence:?}", name(&package));
    }
}

#[test]
fn nothing_that_is_banned_is_built_and_what_matters_is_there_once() {
    let deny = toml("deny.toml");
    let banned = words(&deny, "bans", "deny");
    let packages = packages();
    let found: Vec<_> = packages.iter().map(name).filter(|name| banned.contains(name)).collect();
    assert!(found.is_empty(), "{found:?}");
    for one in ONE_VERSION {
        let count = packages.iter().filter(|package| name(package) == one).count();
        assert_eq!(count, 1, "versions of {one}");
    }
    let native: BTreeSet<_> =
        packages.iter().filter(|package| !package["links"].is_null()).map(name).collect();
    assert!(native.iter().copied().eq(NATIVE), "{native:?}");
}

/// Licences that are allowed for this package alone.
fn exceptions<'t>(deny: &'t Table, package: &str) -> BTreeSet<&'t str> {
    let exceptions = deny["licenses"]["exceptions"].as_array().unwrap().iter();
    let of_package = exceptions.filter(|exception| exception["crate"].as_str() == Some(package));
    of_package
        .flat_map(|exception| exception["allow"].as_array().unwrap())
        .map(|licence| licence.as_str().unwrap())
        .collect()
}

/// Whether an SPDX expression is met: its `OR` binds weaker than its `AND`.
fn is_allowed(licence: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = licence.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+");
    let tokens: Vec<String> = spaced.split_whitespace().map(|token| token.replace('+', " WITH ")).collect();
    let mut at = 0;
    let met = any_of(&tokens, &mut at, allowed);
    met && at == tokens.len()
}

fn any_of(tokens: &[String], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut met = all_of(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        met |= all_of(tokens, at, allowed);
    }
    met
}

fn all_of(tokens: &[String], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut met = one(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        met &= one(tokens, at, allowed);
    }
    met
}

fn one(tokens: &[String], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if token != "(" {
        return allowed.contains(token.as_str());
    }
    let met = any_of(tokens, at, allowed);
    *at += 1;
    met
}

#[test]
fn expressions_are_read() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    for licence in ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "ISC AND (MIT OR X)", "X OR ISC AND MIT"] {
        assert!(is_allowed(licence, &allowed), "{licence}");
    }
    assert!(is_allowed("X OR Apache-2.0 WITH LLVM-exception", &allowed));
    for licence in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "MIT AND (X OR Y)", "MIT MIT"] {
        assert!(!is_allowed(licence, &allowed), "{licence}");
    }
}
