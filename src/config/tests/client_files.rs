//! The directory of the clients' files: a directory that goes away or is replaced while it is read takes no client's keys.

use std::{collections::BTreeSet, ffi::OsString, fs, os::unix::fs::PermissionsExt as _};

use super::{Folder, SOUND, read_in};
use crate::config::{ClientChange, ClientFiles};

const KEY: &str = "key = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ae\"\n";

fn client(folder: &Folder, path: &str) {
    folder.write(path, KEY);
    fs::set_permissions(folder.0.join(path), fs::Permissions::from_mode(0o640)).unwrap();
}

/// The directory `clients.d` with the file of the client `good`, which has been read.
fn read(folder: &Folder) -> ClientFiles {
    fs::create_dir(folder.0.join("clients.d")).unwrap();
    client(folder, "clients.d/good.toml");
    let text = format!("{SOUND}[client_files]\ndirectory = \"clients.d\"\n");
    let config = read_in(&folder.0, &text).unwrap();
    let (files, changes) = config.read_client_files().unwrap();
    assert_eq!(told(&changes), ["good is there"]);
    files
}

fn told(changes: &[ClientChange]) -> Vec<String> {
    let told = |change: &ClientChange| {
        format!("{} is {}", change.name, if change.client.is_some() { "there" } else { "gone" })
    };
    changes.iter().map(told).collect()
}

fn event_of(file: &str) -> BTreeSet<OsString> {
    BTreeSet::from([OsString::from(file)])
}

#[test]
fn a_file_that_is_gone_with_its_directory_is_not_removed() {
    let folder = Folder::new();
    let mut files = read(&folder);
    fs::rename(folder.0.join("clients.d"), folder.0.join("away")).unwrap();
    // The event of a change just before, or a search that had begun.
    assert!(told(&files.read(event_of("good.toml"))).is_empty());
    assert!(told(&files.search()).is_empty());
    fs::create_dir(folder.0.join("clients.d")).unwrap();
    assert_eq!(told(&files.search()), ["good is gone"]);
}

#[test]
fn a_file_in_place_of_the_directory_removes_nothing() {
    let folder = Folder::new();
    let mut files = read(&folder);
    fs::remove_dir_all(folder.0.join("clients.d")).unwrap();
    folder.write("clients.d", "");
    assert!(told(&files.read(event_of("good.toml"))).is_empty());
    assert!(told(&files.search()).is_empty());
}

#[test]
fn a_link_that_leads_nowhere_removes_nothing_until_it_leads_to_a_directory() {
    let folder = Folder::new();
    let mut files = read(&folder);
    fs::rename(folder.0.join("clients.d"), folder.0.join("first")).unwrap();
    std::os::unix::fs::symlink("second", folder.0.join("clients.d")).unwrap();
    assert!(told(&files.read(event_of("good.toml"))).is_empty());
    fs::create_dir(folder.0.join("second")).unwrap();
    client(&folder, "second/other.toml");
    assert_eq!(told(&files.search()), ["good is gone", "other is there"]);
}

#[test]
fn a_file_that_is_removed_is_gone() {
    let folder = Folder::new();
    let mut files = read(&folder);
    fs::remove_file(folder.0.join("clients.d/good.toml")).unwrap();
    assert_eq!(told(&files.read(event_of("good.toml"))), ["good is gone"]);
}
