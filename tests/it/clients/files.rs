//! Clients in files: issued, used, rotated, revoked and broken while the gateway serves.

use std::{fs, os::unix::fs::PermissionsExt as _};

use sluicegate::config::KeyHash;

use super::rig::{EVENT, Files, key_of};
use crate::harness::{Answer, CLIENT_KEY, Client, Http, safely, take};

const ONE: &str = "sk-sg-one-0123456789abcdef0123456789";
const TWO: &str = "sk-sg-two-0123456789abcdef0123456789";

#[tokio::test]
async fn a_key_is_issued_rotated_and_revoked_without_touching_the_configuration() {
    let files = Files::new("[group.research]\nmodels = [\"gpt-4o*\"]\n").await;
    let mut serving = files.serve();
    let generation = serving.status().await["generation"].clone();

    let issued = files.issue(&["team-x", "--group", "research"]);
    assert_eq!(issued.code, Some(0), "{}", issued.err);
    let first = key_of(&issued);
    serving.files_read();
    let mode = fs::metadata(files.path("team-x.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let line = serving.ask(&first).await;
    assert_eq!(line.status, 200, "{line:?}");
    let line = serving.process.line(|line| line.contains("\"kind\":\"access\""));
    assert!(line.contains("\"caller\":\"team-x\",\"group\":\"research\""), "{line}");

    let again = files.issue(&["team-x"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("team-x.toml exists already") && again.out.is_empty(), "{}", again.err);

    let both = [&*first, TWO].map(|key| format!("\"{}\"", KeyHash::of(key.as_bytes()))).join(", ");
    files.write("team-x.toml", &format!("keys = [{both}]\n"));
    serving.files_read();
    assert!(serving.admits(&first).await && serving.admits(TWO).await);
    files.client("team-x", TWO, "");
    serving.files_read();
    assert!(!serving.admits(&first).await && serving.admits(TWO).await);

    files.remove("team-x.toml");
    serving.files_read();
    assert!(!serving.admits(TWO).await && serving.admits(CLIENT_KEY).await);
    assert_eq!(serving.status().await["generation"], generation);
    let left: Vec<_> = fs::read_dir(files.path("")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_key_is_not_issued_where_that_makes_no_sense() {
    let files = Files::new("").await;
    let refused = |arguments: &[&str], says: &str| {
        let done = files.issue(arguments);
        assert_eq!(done.code, Some(1), "{arguments:?}: {}", done.out);
        assert!(done.err.contains(says) && done.out.is_empty(), "{arguments:?}: {}", done.err);
    };
    refused(&["tester"], "client `tester` is defined in");
    refused(&["tester"], "gateway.toml, line ");
    refused(&["team-a", "--group", "nowhere"], "no group `nowhere` is defined in");
    refused(&["../team-a"], "not a valid client name");
    fs::remove_dir(files.path("")).unwrap();
    refused(&["team-a"], "team-a.toml cannot be written");
    files.folder.write("gateway.toml", "[log]\n");
    refused(&["team-a"], "has no [client_files] table");
}

/// An open stream finishes or is cut when its file is removed, as the file said.
#[tokio::test]
async fn removal_revokes_at_once_and_open_streams_follow_on_revoke() {
    let files = Files::new("").await;
    let mut serving = files.serve();
    for (lines, is_cut) in [("", false), ("on_revoke = \"cut\"", true)] {
        files.client("team-x", ONE, lines);
        serving.files_read();
        let gate = files.waiting();
        let mut client = Client::connect(serving.address, Http::One).await;
        let mut response = safely(client.send(serving.request(ONE))).await.unwrap();
        take(response.body_mut(), EVENT.len()).await;
        files.remove("team-x.toml");
        serving.files_read();
        assert!(!serving.admits(ONE).await);
        if !is_cut {
            gate.open();
        }
        let answer = safely(Answer::read(response)).await;
        assert_eq!(answer.text().contains("key_revoked"), is_cut, "{answer:?}");
        assert_eq!(answer.text().contains("[DONE]"), !is_cut, "{answer:?}");
    }
}

#[tokio::test]
async fn a_broken_file_affects_its_client_only_and_the_last_good_form_stays() {
    let files = Files::new("").await;
    files.client("good", TWO, "");
    files.client("team-x", ONE, "tags = { v = \"1\" }");
    let mut serving = files.serve();
    assert!(serving.admits(ONE).await && serving.admits(TWO).await);

    files.client("team-x", ONE, "group = \"nowhere\"\nmodels = 7");
    let line = serving.complaint("team-x.toml");
    assert!(
        line.contains("line 2: group: no group `nowhere` is defined") && line.contains("(and 1 more)"),
        "{line}"
    );
    assert!(serving.admits(ONE).await && serving.admits(TWO).await);
    let status = serving.status().await;
    assert_eq!(status["client_files"]["broken"], 1, "{status}");
    assert_eq!(status["client_files"]["problems"][0]["file"], "team-x.toml", "{status}");
    assert_eq!(serving.metric("sluicegate_client_files", "state=\"broken\"").await, 1.0);
    assert_eq!(serving.metric("sluicegate_client_files", "state=\"used\"").await, 1.0);

    // A name that is defined later makes the file good, without a change of the file.
    files.configure("[group.nowhere]\n");
    let line = serving.complaint("team-x.toml");
    assert!(line.contains("models") && !line.contains("more)"), "{line}");
    files.client("team-x", ONE, "group = \"nowhere\"");
    serving.files_read();
    assert_eq!(serving.status().await["client_files"]["broken"], 0);

    // A group that is not defined any more makes it broken; the client keeps what it had.
    files.configure("");
    serving.complaint("team-x.toml");
    assert!(serving.admits(ONE).await);

    files.write("team-x.toml", "not toml");
    serving.complaint("team-x.toml");
    files.remove("team-x.toml");
    serving.files_read();
    assert!(!serving.admits(ONE).await && serving.admits(TWO).await);
    assert_eq!(serving.status().await["client_files"]["broken"], 0);
}

#[tokio::test]
async fn a_client_in_both_places_is_an_error_with_both_places() {
    let files = Files::new("").await;
    files.client("tester", ONE, "");
    let checked = files.check();
    assert_eq!(checked.code, Some(1), "{}", checked.out);
    assert!(
        checked.err.contains("tester.toml: client `tester` is defined in gateway.toml, line "),
        "{}",
        checked.err
    );
    let serving = files.serve();
    assert!(!serving.admits(ONE).await && serving.admits(CLIENT_KEY).await);
    let status = serving.status().await;
    let problem = status["client_files"]["problems"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("is defined in gateway.toml, line "), "{problem}");
}

/// The one that has the key keeps it. When it gives the key up, the other file is read again.
#[tokio::test]
async fn a_key_belongs_to_one_client() {
    let files = Files::new("").await;
    files.client("a", ONE, "");
    let mut serving = files.serve();
    files.client("b", ONE, "tags = { who = \"b\" }");
    let line = serving.complaint("b.toml");
    assert!(line.contains("is a key of client `a` too, in") && line.contains("a.toml"), "{line}");
    files.client("a", TWO, "");
    serving.files_read();
    assert!(serving.admits(ONE).await && serving.admits(TWO).await);
    let line = serving.process.line(|line| line.contains("\"who\":\"b\""));
    assert!(line.contains("\"caller\":\"b\""), "{line}");
    assert_eq!(serving.status().await["client_files"]["broken"], 0);
}

/// A file that is used may still have a mistake in it: `check` names the file and the line, the gateway logs it once, and `/status` has it.
#[tokio::test]
async fn warnings_of_files_are_shown_to_whoever_can_correct_them() {
    let files = Files::new("").await;
    files.client("good", ONE, "");
    let sample = format!("keys = [\n\"sha256:{}\",\n]\nexpires = \"2020-01-01T00:00:00Z\"\n", "0".repeat(64));
    let mistakes = [
        "line 2: keys[0]: is the sample's hash, which matches no key",
        "line 4: expires: is over: the client's keys have expired",
    ];
    let mut serving = files.serve();
    files.write("copied.toml", &sample);
    let checked = files.check();
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    for mistake in mistakes {
        serving
            .process
            .line(|line| line.contains("client file may have a mistake") && line.contains(mistake));
    }
    serving.files_read();
    let status = serving.status_when(|status| !status["client_files"].is_null()).await;
    assert_eq!(status["client_files"]["doubtful"], 1, "{status}");
    for mistake in mistakes {
        assert!(checked.out.contains(&format!("clients.d/copied.toml: {mistake}")), "{}", checked.out);
        let has = |known: &serde_json::Value| {
            known["file"] == "copied.toml" && known["problem"].as_str().unwrap().starts_with(mistake)
        };
        let warnings = status["client_files"]["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(has), "{status}");
    }
    files.client("copied", TWO, "");
    serving.files_read();
    assert_eq!(serving.status().await["client_files"]["doubtful"], 0);
}

#[tokio::test]
async fn keys_of_files_expire_and_are_warned_of() {
    let files = Files::new("").await;
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400);
    files.client("soon", ONE, &format!("expires = \"{}\"", humantime::format_rfc3339_seconds(soon)));
    files.client("over", TWO, "expires = \"2020-01-01T00:00:00Z\"");
    let checked = files.check();
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(checked.out.contains("the keys of client `soon` expire at "), "{}", checked.out);
    assert!(
        checked.out.contains("the keys of client `over` expired at 2020-01-01T00:00:00Z"),
        "{}",
        checked.out
    );
    let serving = files.serve();
    assert!(serving.admits(ONE).await);
    let refused = serving.ask(TWO).await;
    assert_eq!(&*refused.code(), "key_expired", "{refused:?}");
    let status = serving.status().await;
    let clients = &status["clients"];
    assert_eq!(
        (&clients["count"], &clients["expired"], &clients["expiring"]),
        (&3.into(), &1.into(), &1.into())
    );
    assert_eq!(clients["first"][0]["name"], "over", "{status}");
    for (state, count) in [("active", 1.0), ("expiring", 1.0), ("expired", 1.0)] {
        assert_eq!(
            serving.metric("sluicegate_clients", &format!("state=\"{state}\"")).await,
            count,
            "{state}"
        );
    }
}
