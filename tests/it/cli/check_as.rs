//! `check --as`: what would become of a request, without sending it.

use super::process::{Done, sluicegate};
use crate::{folder::Folder, harness::UPSTREAM_KEY};

const CLIENTS: &str = r#"
[client.team-a]
key = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
routes = ["main", "hosted"]
models = ["gpt-4o*", "llama-3"]
[client.team-b]
key = "sha256:3608bca1e44ea6c4d268eb6db02260269892c0b42b86bbf1e77a6fa16c3c9282"
"#;

/// Nobody listens there: a dry run sends nothing.
const GATEWAY: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[upstream.first]
targets = [{ url = "http://127.0.0.1:9/base", weight = 2 }, { url = "http://127.0.0.1:10" }]
keys = [{ env = "UPSTREAM_KEY" }, { env = "PATH" }]
[upstream.second]
url = "http://127.0.0.1:11/openai"
key = { env = "UPSTREAM_KEY" }
[upstream.local]
url = "http://127.0.0.1:12"
auth = "none"
[route.main]
path = "/v1"
methods = ["POST"]
upstreams = ["first", { upstream = "second", model = "gpt-4o-eu" }, "local"]
[route.rewritten]
path = "/team/v1"
rewrite = "/api/v2"
upstreams = ["second"]
[route.hosted]
path = "/h"
hosts = ["llm.example.com"]
upstreams = ["local"]
"#;

fn check(arguments: &[&str]) -> Done {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", &format!("{GATEWAY}{CLIENTS}"));
    let done = sluicegate(&[&["check", "--config", &file], arguments].concat());
    assert!(!done.out.contains(UPSTREAM_KEY) && !done.err.contains(UPSTREAM_KEY), "a key is shown");
    done
}

fn shown(arguments: &[&str]) -> String {
    let done = check(arguments);
    assert_eq!((done.code, &*done.err), (Some(0), ""), "{arguments:?}");
    done.out
}

fn refused(arguments: &[&str]) -> String {
    let done = check(arguments);
    assert_eq!((done.code, &*done.out), (Some(1), ""), "{arguments:?}: {}", done.err);
    done.err
}

#[test]
fn the_candidates_are_in_order_with_their_urls() {
    let expected = "\
route      main (/v1)
client     team-a
model      gpt-4o-mini
candidate  1. first for gpt-4o-mini, 2 keys
           POST http://127.0.0.1:9/base/v1/chat/completions
           POST http://127.0.0.1:10/v1/chat/completions
candidate  2. second for gpt-4o-eu, 1 key
           POST http://127.0.0.1:11/openai/v1/chat/completions
candidate  3. local for gpt-4o-mini, no key
           POST http://127.0.0.1:12/v1/chat/completions
account    any; first/env:UPSTREAM_KEY, if the body names an id or has `store: true`
";
    let request = ["POST", "/v1/chat/completions", "--model", "gpt-4o-mini"];
    assert_eq!(shown(&[&["--as", "team-a"], &request[..]].concat()), expected);
    // POST is what is left out.
    let short = shown(&["--as", "team-a", "/v1/chat/completions", "--model", "gpt-4o-mini"]);
    assert_eq!(short, expected);
}

#[test]
fn the_account_is_shown_where_a_request_depends_on_one() {
    let account = |client, method, path| {
        let text = shown(&["--as", client, method, path]);
        text.lines().find_map(|line| line.strip_prefix("account    ")).map(str::to_owned)
    };
    let made = account("team-a", "POST", "/v1/files").unwrap();
    let (first, others) = made.split_once("; if it fails: ").unwrap();
    assert_eq!(others.split(", ").count(), 3, "{others}");
    let known = account("team-a", "POST", "/v1/responses/resp_12/cancel").unwrap();
    assert_eq!(known, format!("the one that is known to have the id; else {first}"));
    assert_eq!(account("team-a", "POST", "/v1/embeddings"), None);
    // There is one account only.
    assert_eq!(account("team-b", "POST", "/team/v1/files"), None);
}

#[test]
fn a_rewritten_path_is_shown_as_it_is_sent() {
    let text = shown(&["--as", "team-b", "get", "/team/v1/models"]);
    assert!(text.contains("route      rewritten (/team/v1)"), "{text}");
    assert!(text.contains("           GET http://127.0.0.1:11/openai/api/v2/models\n"), "{text}");
    assert!(text.contains("model      not given"), "{text}");
}

#[test]
fn a_route_with_hosts_is_found_too() {
    let text = shown(&["--as", "team-b", "GET", "/team/v1/models?limit=1"]);
    assert!(text.contains("/openai/api/v2/models?limit=1\n"), "{text}");
    let text = shown(&["--as", "team-a", "GET", "/h/x"]);
    assert!(text.contains("route      hosted (/h at llm.example.com)"), "{text}");
}

#[test]
fn a_refused_request_says_by_what() {
    let team_a = |request: &[&str]| refused(&[&["--as", "team-a"], request].concat());
    let said = team_a(&["GET", "/team/v1/models"]);
    assert!(said.contains("client `team-a` may not use route `rewritten`"), "{said}");
    let said = team_a(&["/v1/chat/completions", "--model", "gpt-5"]);
    assert!(said.contains("client `team-a` may not use model `gpt-5`"), "{said}");
    let said = team_a(&["GET", "/v1/models"]);
    assert!(said.contains("no route takes GET /v1/models: its methods are POST"), "{said}");
    let said = team_a(&["/v2/chat/completions"]);
    assert!(said.contains("no route matches /v2/chat/completions") && said.contains("/team/v1"), "{said}");
    let said = team_a(&["v1/models"]);
    assert!(said.contains("is not a valid path"), "{said}");
    let said = team_a(&["GE T", "/v1/models"]);
    assert!(said.contains("is not an HTTP method"), "{said}");
    let said = refused(&["--as", "team-c", "/v1/chat/completions"]);
    assert!(said.contains("there is no [client.team-c]; the clients are: team-a, team-b"), "{said}");
}

#[test]
fn a_dry_run_is_not_online_and_asks_for_chat_completions() {
    for arguments in [&["--as", "team-a", "/v1", "--online"][..], &["/v1/models"], &["--model", "gpt-4o"]] {
        assert_eq!(check(arguments).code, Some(2), "{arguments:?}");
    }
    let text = shown(&["--as", "team-a", "--model", "gpt-4o"]);
    assert!(text.contains("POST http://127.0.0.1:10/v1/chat/completions"), "{text}");
}

#[test]
fn an_unknown_model_without_a_like_has_no_empty_list() {
    let folder = Folder::new();
    let tables = "model_tables = \"only\"\n[model.other]\nupstreams = [\"second\"]";
    let text = GATEWAY.replace("[route.rewritten]", &format!("{tables}\n[route.rewritten]"));
    let file = folder.write("gateway.toml", &format!("{text}{CLIENTS}"));
    let of = |client| sluicegate(&["check", "--config", &file, "--as", client, "--model", "zzzz"]).err;
    assert!(of("team-b").contains("similar names: other"), "{}", of("team-b"));
    assert!(of("team-a").trim_end().ends_with("fits `zzzz`"), "{}", of("team-a"));
}
