//! `sluicegate log` on a file that is still written, behind a journal, and with each of its filters.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

use serde_json::json;

use super::process::{BINARY, Done, Running, command};
use crate::folder::Folder;

fn line(id: &str, client: &str, model: &str, who: &str) -> String {
    json!({
        "time": "2026-11-28T12:00:00.000Z", "kind": "access", "request_id": id, "caller": client, "model": model, "upstream": "openai",
        "method": "POST", "path": "/v1/chat/completions", "status": 200, "who": who, "phase": "done", "total_ms": 1.0,
    })
    .to_string()
}

fn append(path: &str, line: &str) {
    writeln!(File::options().append(true).create(true).open(path).unwrap(), "{line}").unwrap();
}

/// What it prints of these lines on its standard input.
fn of_pipe(arguments: &[&str], lines: &[String]) -> String {
    let mut log = command(BINARY);
    let log = log.arg("log").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut log = log.unwrap();
    let mut stdin = log.stdin.take().unwrap();
    lines.iter().for_each(|line| writeln!(stdin, "{line}").unwrap());
    drop(stdin);
    let done = Done::from(log.wait_with_output().unwrap());
    assert_eq!(done.code, Some(0));
    done.out
}

#[test]
fn each_filter_shows_what_fits_it() {
    let lines = [
        line("req_1", "team-a", "gpt-4o", "upstream"),
        line("req_2", "team-b", "gpt-4o-mini", "downstream"),
        line("req_3", "other", "o4-mini", "gateway"),
    ];
    for (arguments, wanted) in [
        (["--client", "team-a"], "1"),
        (["--client", "team-*"], "12"),
        (["--model", "gpt-4o"], "1"),
        (["--model", "gpt-4o*"], "12"),
        (["--who", "gateway"], "3"),
        (["--id", "req_2"], "2"),
        (["--upstream", "openai"], "123"),
        (["--upstream", "azure"], ""),
    ] {
        let shown = of_pipe(&arguments, &lines);
        let ids: String = (1..=3)
            .filter(|number| shown.contains(&format!("req_{number}")))
            .map(|number| number.to_string())
            .collect();
        assert_eq!(ids, wanted, "{arguments:?}\n{shown}");
    }
    let both = of_pipe(&["--client", "team-*", "--who", "downstream"], &lines);
    assert!(both.contains("req_2") && !both.contains("req_1"), "all that is asked for must fit: {both}");
}

#[test]
fn a_file_is_followed_and_filtered_and_may_be_rotated() {
    let folder = Folder::new();
    let file = folder.write("log", "");
    append(&file, &line("req_before", "team-a", "m", "upstream"));
    let mut log = Running::start(&["log", "--follow", "--client", "team-a", &file]);
    log.line(|shown| shown.contains("req_before"));
    append(&file, &line("req_other", "team-b", "m", "upstream"));
    append(&file, &line("req_after", "team-a", "m", "upstream"));
    let shown = log.line(|shown| shown.contains("req_"));
    assert!(shown.contains("req_after"), "the other client's line is not shown: {shown}");
    fs::rename(&file, folder.path("log.1")).unwrap();
    append(&file, &line("req_rotated", "team-a", "m", "upstream"));
    log.line(|shown| shown.contains("req_rotated"));
}

#[test]
fn the_journals_json_is_read_from_a_pipe() {
    let own = line("req_1", "team-a", "m", "upstream");
    let wrapped = |message: serde_json::Value| {
        json!({ "MESSAGE": message, "_SYSTEMD_UNIT": "sluicegate.service" }).to_string()
    };
    let lines = [
        wrapped(json!(own)),
        // What cannot be printed is a list of bytes, and what is long is left out.
        wrapped(json!(line("req_2", "team-a", "m\u{1}", "upstream").as_bytes())),
        wrapped(json!(null)),
        wrapped(json!(line("req_3", "team-b", "m", "upstream"))),
    ];
    let shown = of_pipe(&["--client", "team-a"], &lines);
    assert!(shown.contains("req_1") && shown.contains("req_2") && !shown.contains("req_3"), "{shown}");
    assert!(of_pipe(&[], &lines).contains("with --all"));
}

/// A program `journalctl` in a folder, which writes down its arguments.
fn journal(folder: &Folder, lines: &[String], code: u8) {
    let out = folder.write("journal", &(lines.join("\n") + "\n"));
    let arguments = folder.path("arguments");
    let script = format!("#!/bin/sh\necho \"$@\" >{arguments}\ncat {out}\nexit {code}\n");
    let program = folder.write("journalctl", &script);
    fs::set_permissions(Path::new(&program), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs it at a terminal, where it reads the journal by itself. `script` of Debian's bsdutils makes the terminal.
fn at_a_terminal(folder: &Folder, arguments: &str) -> Done {
    let path = format!("{}:{}", folder.path(""), std::env::var("PATH").unwrap());
    let mut script = command("script");
    script.args(["--quiet", "--return", "--command", &format!("{BINARY} log {arguments}"), "/dev/null"]);
    script.env("PATH", path).env("NO_COLOR", "1").stdin(Stdio::null());
    script.output().unwrap().into()
}

#[test]
fn at_a_terminal_the_journal_of_the_unit_is_read() {
    let folder = Folder::new();
    let lines = [line("req_1", "team-a", "m", "upstream"), line("req_2", "team-b", "m", "upstream")];
    journal(&folder, &lines, 0);
    let done = at_a_terminal(&folder, "--client team-a --unit sluicegate@blue --follow");
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert!(done.out.contains("req_1") && !done.out.contains("req_2"), "{}", done.out);
    let arguments = fs::read_to_string(folder.path("arguments")).unwrap();
    for part in ["--unit sluicegate@blue", "--output cat", "--all", "--follow"] {
        assert!(arguments.contains(part), "{part}: {arguments}");
    }
    journal(&folder, &[], 1);
    let done = at_a_terminal(&folder, "");
    assert_eq!((done.code, done.out.contains("journalctl failed")), (Some(1), true), "{}", done.out);
}
