//! Tells the program what it was built from, for `sluicegate --version`: commit, target, profile and optional features.
//!
//! The commit is the first of these that is known: the variable `SLUICEGATE_COMMIT` (for packages that are built without a repository), the
//! repository of this folder, the file that `cargo package` puts beside the sources, "unknown". Debug builds do not record it: they would be
//! compiled again after each commit.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SLUICEGATE_COMMIT");
    let folder = variable("CARGO_MANIFEST_DIR");
    let is_debug = variable("PROFILE") == "debug";
    let commit = match env::var("SLUICEGATE_COMMIT") {
        Ok(commit) if is_plain(&commit) => commit,
        _ if is_debug => "not recorded (debug build)".to_owned(),
        _ => commit_of(Path::new(&folder)),
    };
    println!("cargo:rustc-env=SLUICEGATE_COMMIT={commit}");
    println!("cargo:rustc-env=SLUICEGATE_TARGET={}, {}", variable("TARGET"), variable("PROFILE"));
    println!("cargo:rustc-env=SLUICEGATE_FEATURES={}", features());
    let languages = languages(&Path::new(&folder).join("src/fault/messages"));
    // The program includes the file, so that a failure to write it is reported there.
    let _ = fs::write(Path::new(&variable("OUT_DIR")).join("languages.rs"), languages);
}

/// A list of the languages of messages, English first: the tag of each, and the text of its file, which is named by the tag.
fn languages(folder: &Path) -> String {
    println!("cargo:rerun-if-changed={}", folder.display());
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|kind| kind == "toml")).collect();
    files.retain(|file| is_language(&stem(file)));
    files.sort_by_key(|file| (stem(file) != "en", stem(file)));
    let rows = files
        .iter()
        .map(|file| format!("({:?}, include_str!({:?})),\n", stem(file), file.display().to_string()));
    format!("&[\n{}]\n", rows.collect::<String>())
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A language of two or three letters, perhaps with subtags (RFC 5646 §2.1).
fn is_language(tag: &str) -> bool {
    let primary = tag.split('-').next().unwrap_or_default();
    (2..=3).contains(&primary.len())
        && tag.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
        && primary.chars().all(|one| one.is_ascii_lowercase())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// What is compiled in: always these, and the optional features of the crate.
fn features() -> String {
    let mut features =
        ["http/1.1", "http/2", "tls 1.2", "tls 1.3", "aws-lc", "jemalloc"].map(str::to_owned).to_vec();
    let optional =
        env::vars().filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()));
    let mut optional: Vec<String> = optional.filter(|name| name != "default").collect();
    optional.sort();
    features.extend(optional);
    features.join(", ")
}

/// The commit of the sources in `folder`.
fn commit_of(folder: &Path) -> String {
    in_repository(folder).or_else(|| in_package(folder)).unwrap_or_else(|| "unknown".to_owned())
}

/// The commit that is checked out, with "-modified" if files differ from it. `None` if this is not a repository, or there is no git.
fn in_repository(folder: &Path) -> Option<String> {
    // A repository around the folder is another project's, such as a distribution's.
    let top = git(folder, &["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(&top).ok()? != fs::canonicalize(folder).ok()? {
        return None;
    }
    let commit = git(folder, &["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(folder, &["status", "--porcelain", "--untracked-files=no"])?;
    // HEAD names a branch or a commit; the branch's file is missing while it is packed.
    let branch = git(folder, &["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", "packed-refs", &branch].into_iter().filter(|name| !name.is_empty()) {
        let file = git(folder, &["rev-parse", "--git-path", name])?;
        let file = folder.join(file);
        if file.exists() {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }
    for part in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={part}");
    }
    Some(if changed.is_empty() { commit } else { format!("{commit}-modified") })
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `cargo package` writes `{"git":{"sha1":"…"},…}` (The Cargo Book, "cargo package").
fn in_package(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(".cargo_vcs_info.json")).ok()?;
    let commit = text.split("\"sha1\"").nth(1)?.split('"').nth(1)?;
    is_plain(commit).then(|| commit.chars().take(12).collect())
}

fn is_plain(commit: &str) -> bool {
    !commit.is_empty()
        && commit.len() <= 64
        && commit.chars().all(|one| one.is_ascii_alphanumeric() || "-._+".contains(one))
}
