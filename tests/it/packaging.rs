//! What is shipped beside the binary: the units and the configuration of the service agree with the program and with one another.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path, process::Command, time::Duration};

use sluicegate::{
    cli::cert::Development,
    config::{self, Config, Env, Problem},
};

use crate::{
    cli::process::{BINARY, sluicegate},
    folder::Folder,
};

const SERVICE: &str = include_str!("../../systemd/sluicegate.service");
const SOCKET: &str = include_str!("../../systemd/sluicegate.socket");
const GATEWAY: &str = include_str!("../../systemd/gateway.toml");

/// How long the last log lines may take after the drain.
const LAST_LINES: Duration = Duration::from_secs(5);

/// The units, with the tests' binary in the place of the installed one.
fn units(folder: &Folder) -> [String; 2] {
    let service = SERVICE.replace("/usr/bin/sluicegate", BINARY);
    [folder.write("sluicegate.service", &service), folder.write("sluicegate.socket", SOCKET)]
}

/// What systemd's own judge of units says: the exit code, and everything it printed.
fn systemd_analyze(arguments: &[&str]) -> (Option<i32>, String) {
    let ran = Command::new("systemd-analyze").args(arguments).env("SYSTEMD_PAGER", "").output();
    let output = ran.unwrap_or_else(|error| {
        panic!("this test needs systemd-analyze, on Debian: apt-get install systemd; {error}")
    });
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// The values of a setting, in the order of the unit.
fn settings<'u>(unit: &'u str, name: &str) -> Vec<&'u str> {
    let value = |line: &'u str| line.strip_prefix(name)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
}

/// The credentials that the unit loads, without the files they come from.
fn credentials() -> BTreeSet<&'static str> {
    settings(SERVICE, "LoadCredential").into_iter().filter_map(|one| one.split(':').next()).collect()
}

/// A folder as an installation has it: the shipped configuration with a certificate and a caller, and the unit's credentials.
fn installed() -> Folder {
    let folder = Folder::new();
    let caller = sluicegate(&["key", "new", "team-a"]).out;
    folder.write("gateway.toml", &format!("{GATEWAY}\n{caller}"));
    for name in ["certs", "credentials"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    Development::new(&[]).unwrap().write(Path::new(&folder.path("certs"))).unwrap();
    for name in credentials() {
        folder.write(&format!("credentials/{name}"), "sk-not-a-real-one\n");
    }
    folder
}

fn read(folder: &Folder) -> Result<Config, Vec<Problem>> {
    let credentials = OsString::from(folder.path("credentials"));
    let variable = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone());
    config::parse(
        &fs::read_to_string(folder.path("gateway.toml")).unwrap(),
        &Env::new(folder.path(""), &variable),
    )
}

#[test]
fn systemd_finds_nothing_to_say_about_the_units() {
    let folder = Folder::new();
    let [service, socket] = units(&folder);
    assert_eq!(systemd_analyze(&["verify", &service, &socket]), (Some(0), String::new()));
    // The service alone, as it is where the socket is masked.
    fs::remove_file(&socket).unwrap();
    assert_eq!(systemd_analyze(&["verify", &service]), (Some(0), String::new()));
}

#[test]
fn little_is_exposed_to_the_service() {
    let folder = Folder::new();
    let [service, _] = units(&folder);
    // Past 2.0 it exits with 1.
    let (code, told) =
        systemd_analyze(&["security", "--offline=true", "--threshold=20", "--no-pager", &service]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("Overall exposure level"), "{told}");
}

#[test]
fn the_shipped_configuration_needs_nothing_but_what_an_installation_gives_it() {
    let config = read(&installed()).map_err(|problems| format!("{problems:#?}")).unwrap();
    assert!(config.warnings.is_empty(), "{:#?}", config.warnings);
}

#[test]
fn without_them_each_is_named() {
    let folder = installed();
    for missing in ["certs", "credentials"] {
        fs::remove_dir_all(folder.path(missing)).unwrap();
    }
    let problems: Vec<Problem> = read(&folder).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(
        paths,
        ["listener[0].tls.certificate", "listener[0].tls.key", "upstream.openai.key.credential"]
    );
    assert!(problems[2].message.contains("`sluicegate.openai`"), "{:?}", problems[2]);
}

/// What outlives a restart is where `$STATE_DIRECTORY` says, and only the service reads it.
#[test]
fn the_service_has_a_state_directory_of_its_own() {
    assert!(SERVICE.contains("\nStateDirectory=sluicegate\nStateDirectoryMode=0700\n"));
    assert!(!GATEWAY.lines().any(|line| line.trim_start().starts_with("state_directory")));
}

#[test]
fn systemd_waits_longer_than_the_drain_takes() {
    let config = read(&installed()).unwrap();
    let drain = config.server.drain;
    let [stop] = settings(SERVICE, "TimeoutStopSec")[..] else { panic!("one TimeoutStopSec=") };
    let stop = Duration::from_secs(stop.strip_suffix('s').unwrap().parse().unwrap());
    assert!(stop > drain.announce + drain.deadline + LAST_LINES, "{stop:?} for {drain:?}");
}

#[test]
fn the_socket_holds_the_listeners_addresses() {
    let config = read(&installed()).unwrap();
    let listeners: Vec<String> = config.listeners.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(settings(SOCKET, "ListenStream"), listeners);
    let backlog = config.server.backlog.to_string();
    assert_eq!(settings(SOCKET, "Backlog"), [backlog]);
}
