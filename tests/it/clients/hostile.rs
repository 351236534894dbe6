//! Files in the directory that must not be used, each beside one that is.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, fs::symlink},
};

use sluicegate::config::KeyHash;

use super::rig::Files;

const GOOD: &str = "sk-sg-good-0123456789abcdef0123456789";
const EVIL: &str = "sk-sg-evil-0123456789abcdef0123456789";

fn text() -> String {
    format!("key = \"{}\"\n", KeyHash::of(EVIL.as_bytes()))
}

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A way to put a file there.
type Put = fn(&Files);

/// What is put there, and what the status says of it.
const BROKEN: &[(&str, Put, &str)] = &[
    (
        "readable",
        |files| {
            files.write("readable.toml", &text());
            mode(&files.path("readable.toml"), 0o644);
        },
        "can be read by all users",
    ),
    (
        "writable",
        |files| {
            files.write("writable.toml", &text());
            mode(&files.path("writable.toml"), 0o602);
        },
        "can be changed by all users",
    ),
    (
        "outside",
        |files| {
            let outside = files.folder.write("outside.toml", &text());
            mode(outside.as_ref(), 0o640);
            symlink(outside, files.path("outside.toml")).unwrap();
        },
        "is a link that does not lead to a file of the directory",
    ),
    (
        "relative",
        |files| {
            let outside = files.folder.write("relative-target", &text());
            mode(outside.as_ref(), 0o640);
            symlink("../relative-target", files.path("relative.toml")).unwrap();
        },
        "is a link that does not lead to a file of the directory",
    ),
    ("dangling", |files| symlink("nowhere", files.path("dangling.toml")).unwrap(), "is a link that"),
    ("device", |files| symlink("/dev/zero", files.path("device.toml")).unwrap(), "is a link that"),
    ("folder", |files| fs::create_dir(files.path("folder.toml")).unwrap(), "is not a regular file"),
    (
        "large",
        |files| files.write("large.toml", &format!("{}#{}", text(), "x".repeat(70_000))),
        "larger than 64KiB",
    ),
    ("clear", |files| files.write("clear.toml", &format!("key = \"{EVIL}\"\n")), "is not the hash of a key"),
    (
        "nested",
        |files| files.write("nested.toml", &format!("[client.nested]\n{}", text())),
        "key: is missing",
    ),
    (
        "utf8",
        |files| {
            fs::write(files.path(".t"), [b"# \xff\n", text().as_bytes()].concat()).unwrap();
            mode(&files.path(".t"), 0o640);
            fs::rename(files.path(".t"), files.path("utf8.toml")).unwrap();
        },
        "is not UTF-8",
    ),
    ("a file", |files| files.write(&format!("{EVIL}.toml"), &text()), "its name is not a valid name"),
    ("a file", |files| files.write("-x y.toml", &text()), "its name is not a valid name"),
    (
        "a file",
        |files| {
            files.write("t", &text());
            fs::rename(files.path("t"), files.path("").join(OsStr::from_bytes(b"\xff.toml"))).unwrap();
        },
        "its name is not a valid name",
    ),
];

/// Found at the start, and put there while the gateway serves.
#[tokio::test]
async fn what_must_not_be_used_is_not_used_and_is_reported() {
    for is_running in [false, true] {
        for (name, put, says) in BROKEN {
            let files = Files::new("").await;
            files.client("good", GOOD, "");
            let mut serving = None;
            if is_running {
                serving = Some(files.serve());
            }
            put(&files);
            let serving = serving.unwrap_or_else(|| files.serve());
            let status = serving.status_when(|status| status["client_files"]["broken"] == 1).await;
            let known = &status["client_files"]["problems"][0];
            assert!(known["problem"].as_str().unwrap().contains(says), "{name}: {known}");
            assert!(known["file"].as_str().unwrap().starts_with(name), "{name}: {known}");
            assert!(!status.to_string().contains(EVIL), "{status}");
            assert!(serving.admits(GOOD).await && !serving.admits(EVIL).await, "{name}");
        }
    }
}

/// Temporary files and backups of editors.
#[tokio::test]
async fn other_files_are_ignored() {
    let files = Files::new("").await;
    files.client("good", GOOD, "");
    for name in [".evil.toml", ".evil.toml.swp", "evil.toml~", "evil.toml.bak", "evil", "evil.TOML", "toml"] {
        files.write(name, &text());
    }
    let serving = files.serve();
    let status = serving.status().await;
    assert_eq!((&status["client_files"]["files"], &status["client_files"]["broken"]), (&1.into(), &0.into()));
    assert!(serving.admits(GOOD).await && !serving.admits(EVIL).await);
}

/// As a mounted volume of Kubernetes is: every file is a link through a link, which is swapped.
#[tokio::test]
async fn links_within_the_directory_are_followed_and_their_swap_is_seen() {
    let files = Files::new("").await;
    for (version, key) in [("..v1", GOOD), ("..v2", EVIL)] {
        fs::create_dir(files.path(version)).unwrap();
        let path = files.path(version).join("team-x.toml");
        fs::write(&path, format!("key = \"{}\"\n", KeyHash::of(key.as_bytes()))).unwrap();
        mode(&path, 0o640);
    }
    symlink("..v1", files.path("..data")).unwrap();
    symlink("..data/team-x.toml", files.path("team-x.toml")).unwrap();
    let mut serving = files.serve();
    assert!(serving.admits(GOOD).await && !serving.admits(EVIL).await);
    symlink("..v2", files.path("..new")).unwrap();
    fs::rename(files.path("..new"), files.path("..data")).unwrap();
    serving.files_read();
    assert!(!serving.admits(GOOD).await && serving.admits(EVIL).await);
}

/// A directory that is gone takes nobody's key away: it may be back in a moment.
#[tokio::test]
async fn a_directory_that_is_gone_changes_nothing_until_it_is_back() {
    let files = Files::new("").await;
    files.client("good", GOOD, "");
    let mut serving = files.serve();
    fs::rename(files.path(""), files.folder.path("away")).unwrap();
    serving.status_when(|status| status["client_files"]["unreadable"].is_string()).await;
    assert!(serving.admits(GOOD).await);
    fs::create_dir(files.folder.path("other")).unwrap();
    fs::rename(files.folder.path("other"), files.folder.path("clients.d")).unwrap();
    serving.files_read();
    assert!(!serving.admits(GOOD).await);
    files.client("evil", EVIL, "");
    serving.files_read();
    assert!(serving.admits(EVIL).await);
}
