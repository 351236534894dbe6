//! What the binary tells of itself: version, completions, manual pages, schema; and its colours.

use super::process::{BINARY, command, shell, sluicegate};
use crate::{folder::Folder, harness::GatewayToml};

const ESCAPE: char = '\u{1b}';

#[test]
fn the_long_version_names_the_commit() {
    let short = sluicegate(&["-V"]).out;
    assert_eq!(short, concat!("sluicegate ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = sluicegate(&["--version"]).out;
    assert!(long.starts_with(&short), "{long}");
    for fact in ["\ncommit    ", "\nbuilt for ", "\nfeatures  http/1.1, http/2"] {
        assert!(long.contains(fact), "{fact}: {long}");
    }
}

#[test]
fn each_shell_gets_its_completions() {
    for (shell, word) in [
        ("bash", "complete -F _sluicegate"),
        ("zsh", "#compdef sluicegate"),
        ("fish", "complete -c sluicegate"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let done = sluicegate(&["completions", shell]);
        assert_eq!(done.code, Some(0));
        assert!(done.out.contains(word) && done.out.contains("--online"), "{shell}: {}", done.out);
    }
    let folder = Folder::new();
    let file = folder.write("completions.bash", &sluicegate(&["completions", "bash"]).out);
    let read = shell(&format!("bash -c '. {file}; complete -p sluicegate'"));
    assert_eq!((read.code, &*read.err), (Some(0), ""));
    assert_eq!(sluicegate(&["completions", "tcsh"]).code, Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let page = sluicegate(&["man"]);
    assert!(page.out.contains(".SH EXAMPLES") && page.out.contains("sluicegate\\-check(1)"), "{}", page.out);
    let page = sluicegate(&["man", "key", "new"]);
    assert!(page.out.contains(".TH sluicegate-key-new 1"), "{}", page.out);
    let none = sluicegate(&["man", "kye"]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("there is no command `kye`"), "{}", none.err);
}

#[test]
fn the_schema_is_json_of_draft_7() {
    let schema = sluicegate(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(schema["properties"]["upstream"].is_object());
}

#[test]
fn an_option_is_refused_where_it_does_nothing() {
    for arguments in [&["key", "new", "a", "--config", "x"][..], &["--config", "x", "key", "new", "a"]] {
        let done = sluicegate(arguments);
        assert_eq!((done.code, &*done.out), (Some(2), ""));
        assert!(done.err.contains("--config"), "{}", done.err);
    }
    let folder = Folder::new();
    let file = folder.write("gateway.toml", &GatewayToml::before("http://127.0.0.1:9", "").to_string());
    // Before the command or behind it.
    for arguments in [["--config", &file, "check"], ["check", "--config", &file]] {
        assert_eq!(sluicegate(&arguments).code, Some(0));
    }
}

/// As on a terminal: `script` (util-linux) gives it one.
fn on_a_terminal(line: &str) -> String {
    let mut script = command("script");
    script.args(["-qec", line, "/dev/null"]).env("TERM", "xterm");
    let output = script.env_remove("NO_COLOR").output();
    let output = output.expect("script is needed; on Debian: apt-get install bsdutils");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn there_are_colours_on_a_terminal_only() {
    let line = format!("{BINARY} check --config /nonexistent/gateway.toml");
    let shown = on_a_terminal(&line);
    assert!(shown.contains("error:") && shown.contains(ESCAPE), "{shown:?}");
    let plain = on_a_terminal(&format!("NO_COLOR=1 {line}"));
    assert!(plain.contains("error:") && !plain.contains(ESCAPE), "{plain:?}");
    let piped = sluicegate(&["check", "--config", "/nonexistent/gateway.toml"]);
    assert!(piped.err.contains("error:") && !piped.err.contains(ESCAPE), "{:?}", piped.err);
    for arguments in [&["--help"][..], &["check", "--hlep"]] {
        let line = format!("{BINARY} {}", arguments.join(" "));
        assert!(on_a_terminal(&line).contains(ESCAPE), "{line}");
        assert!(!on_a_terminal(&format!("NO_COLOR=1 {line}")).contains(ESCAPE), "{line}");
        let piped = sluicegate(arguments);
        assert!(!piped.out.contains(ESCAPE) && !piped.err.contains(ESCAPE), "{line}");
    }
}
