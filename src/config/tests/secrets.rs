use proptest::prelude::*;

use super::{Folder, SOUND, read, read_in, sound, with};
use crate::config::Problems;

/// A file in which every string position that the program knows is used.
const WIDE: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
client_address = "proxy-protocol"
trusted = ["10.0.0.0/8"]
tls = { certificate = "a.pem", key = "a.key", client_ca = { file = "ca.pem" }, min_version = "1.3" }
[admin]
address = "127.0.0.1:9901"
token = { env = "OPENAI_API_KEY" }
[server]
keep_alive = "75s"
max_buffered = "1GiB"
http2_ping = "off"
drain = { announce = "1s" }
[log]
format = "json"
level = "info"
[defaults]
body_limit = "1MiB"
timeout = { connect = "1s", idle = "off", first_token = "off" }
retry = { retries = 0, backoff = "1s" }
breaker = { failures = 1, open = "1s" }
heartbeat = "off"
[upstream.openai]
targets = [{ url = "https://api.openai.com/x" }]
keys = [{ env = "OPENAI_API_KEY" }, { credential = "second" }, { file = "third" }]
auth = { header = "x-key" }
proxy = { url = "http://proxy:3128", credentials = { env = "OPENAI_API_KEY" } }
headers = { openai-organization = "org-1", x-more = { file = "more" } }
tls = { ca = "ca.pem", certificate = "a.pem", key = "a.key", server_name = "a.example" }
pool = { idle = "1s" }
balance = "round_robin"
[upstream.other]
url = "https://other.example"
key = { env = "OPENAI_API_KEY" }
auth = "bearer"
proxy = "off"
[route.openai]
path = "/v1"
hosts = ["api.example.com"]
methods = ["POST"]
upstreams = ["openai", { upstream = "other", model = "gpt-4o" }]
commit = "headers"
rewrite = "/"
access = "keys"
request_headers = { set = { x-a = "1", x-e = { env = "OPENAI_API_KEY" } }, remove = ["x-b"], allow = ["x-c"], only = ["x-d"] }
[client.team-a]
key = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
routes = ["openai"]
models = ["gpt-4o"]
"#;

/// Where a string's content begins and ends, for each string of a text.
fn strings(text: &str) -> Vec<(usize, usize)> {
    let quotes: Vec<usize> = text.match_indices('"').map(|(at, _)| at).collect();
    quotes.chunks_exact(2).map(|pair| (pair[0] + 1, pair[1])).collect()
}

/// Where a key or a table's name begins and ends.
fn names(text: &str) -> Vec<(usize, usize)> {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut found = Vec::new();
    for (at, _) in text.match_indices(" = ") {
        let start = text[..at].rfind(|c| !bare(c)).map_or(0, |before| before + 1);
        found.push((start, at));
    }
    found
}

fn pasted(text: &str, (start, end): (usize, usize), secret: &str, shape: u8) -> String {
    let secret = match shape {
        0 => secret.to_owned(),
        1 => format!("https://user:{secret}@host/"),
        2 => format!("Bearer {secret}"),
        3 => format!("http://{secret}@proxy:3128"),
        _ => format!("{}{secret}", &text[start..end]),
    };
    format!("{}{secret}{}", &text[..start], &text[end..])
}

fn a_key() -> impl Strategy<Value = String> {
    prop_oneof![
        "sk-(proj-)?[A-Za-z0-9_-]{16,60}",
        "sk-sg-[A-Za-z0-9_-]{43}",
        "[0-9a-f]{12}[0-9]{4}[0-9a-f]{16}"
    ]
}

proptest! {
    #[test]
    fn a_pasted_key_is_never_shown(key in a_key(), position in any::<prop::sample::Index>(), shape in 0_u8..5) {
        let strings = strings(WIDE);
        let text = pasted(WIDE, strings[position.index(strings.len())], &key, shape);
        never_shown(&text, &key)?;
    }

    #[test]
    fn a_key_pasted_as_a_name_is_never_shown(key in a_key(), position in any::<prop::sample::Index>()) {
        let names = names(WIDE);
        let text = pasted(WIDE, names[position.index(names.len())], &key, 0);
        never_shown(&text, &key)?;
    }

    #[test]
    fn a_key_pasted_anywhere_is_never_shown(key in a_key(), position in any::<prop::sample::Index>()) {
        let at = position.index(WIDE.len());
        let text = format!("{}{key}{}", &WIDE[..at], &WIDE[at..]);
        let problems = read(&text).err().unwrap_or_default();
        let shown = Problems { file: "gateway.toml".into(), problems }.to_string();
        prop_assert!(!shown.contains(&key), "{shown}");
    }
}

/// Neither in the problems nor, if the file is taken all the same, in the warnings.
fn never_shown(text: &str, key: &str) -> Result<(), TestCaseError> {
    let shown = match read(text) {
        Err(problems) => Problems { file: "gateway.toml".into(), problems }.to_string(),
        Ok(config) => format!("{:?}", config.warnings),
    };
    prop_assert!(!shown.contains(key), "{shown}");
    Ok(())
}

#[test]
fn every_kind_of_place_is_read() {
    let folder = Folder::new();
    folder.write("openai", "sk-from-a-credential\n");
    folder.write("key", "sk-from-a-file\r\n");
    let text = with(
        "key = { env = \"OPENAI_API_KEY\" }",
        "keys = [{ credential = \"openai\" }, { file = \"key\" }]",
    );
    let config = read_in(&folder.0, &text).expect("sound");
    let keys: Vec<&str> = config.upstreams["openai"].keys.iter().map(crate::config::Secret::expose).collect();
    assert_eq!(keys, ["sk-from-a-credential", "sk-from-a-file"]);
}

#[test]
fn a_secret_that_cannot_be_sent_is_refused_and_not_shown() {
    let folder = Folder::new();
    let text = with("env = \"OPENAI_API_KEY\"", "file = \"key\"");
    for (content, why, help) in [
        ("", "is empty", "in one line"),
        ("\n", "is empty", "in one line"),
        ("hidden word", "contains spaces", "remove the spaces"),
        ("hidden\nline", "contains line breaks", "one line"),
        ("\u{feff}hidden\n", "byte order mark (BOM)", "without BOM"),
        ("\"hidden\"\n", "is in quotes", "remove the quotes"),
        ("OPENAI_API_KEY=hidden\n", "is an assignment", "leave only the value"),
        ("hidden \n", "begins or ends with spaces", "at the beginning and the end"),
        ("Bearer hidden", "authentication scheme", "leave only the key"),
    ] {
        folder.write("key", content);
        let problems = read_in(&folder.0, &text).expect_err(content);
        let said = format!("upstream.openai.key: refers to an invalid secret: the file `key` {why}");
        let problem = &problems[0];
        let shown = format!("{}: {}", problem.path, problem.message);
        let named = said.rsplit_once(why).expect("a reason").0;
        assert!(shown.starts_with(named) && shown.contains(why), "{shown}");
        assert!(problem.help.contains(help), "{problems:?}");
        assert!(!format!("{problems:?}").contains("hidden"), "{problems:?}");
    }
}

#[test]
fn the_value_of_a_header_can_be_read_from_each_kind_of_place() {
    let folder = Folder::new();
    folder.write("token", "Bearer hidden-in-a-credential\n");
    folder.write("value", "hidden-in-a-file\n");
    let headers = "headers = { x-a = { env = \"OPENAI_API_KEY\" }, x-b = { file = \"value\" }, x-plain = \"seen\" }\nurl =";
    let text = with("url =", headers)
        .replace("path =", "request_headers = { set = { x-c = { credential = \"token\" } } }\npath =");
    let config = read_in(&folder.0, &text).expect("sound");
    let values = |set: &[crate::config::SetHeader]| -> Vec<(String, String, bool)> {
        let one = |set: &crate::config::SetHeader| {
            let value = set.value.to_str().expect("visible").to_owned();
            (set.name.to_string(), value, set.value.is_sensitive())
        };
        set.iter().map(one).collect()
    };
    let row = |name: &str, value: &str, sensitive| (name.to_owned(), value.to_owned(), sensitive);
    assert_eq!(
        values(&config.upstreams["openai"].headers),
        [
            row("x-a", super::UPSTREAM_KEY, true),
            row("x-b", "hidden-in-a-file", true),
            row("x-plain", "seen", false)
        ]
    );
    let set = &config.routes["openai"].request_headers.set;
    assert_eq!(values(set), [row("x-c", "Bearer hidden-in-a-credential", true)]);
    let shown = &config.redacted;
    assert_eq!(shown["upstream"]["openai"]["headers"]["x-b"]["file"], "value");
    assert_eq!(shown["route"]["openai"]["request_headers"]["set"]["x-c"]["credential"], "token");
    assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
}

#[test]
fn a_secret_header_value_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    folder.write("value", "hidden\nhidden");
    for (from, to, why) in [
        (
            "url =",
            "headers = { x-b = { file = \"value\" } }\nurl =",
            "upstream.openai.headers.x-b: refers to an invalid secret: the file `value` contains line breaks",
        ),
        (
            "url =",
            "headers = { x-b = { env = \"A\", file = \"b\" } }\nurl =",
            "upstream.openai.headers.x-b: must have exactly one of the keys",
        ),
        (
            "url =",
            "headers = { authorization = { file = \"value\" } }\nurl =",
            "`authorization` carries a key and cannot be named here",
        ),
        (
            "path =",
            "response_headers = { set = { x-b = { env = \"OPENAI_API_KEY\" } } }\npath =",
            "route.openai.response_headers.set.x-b: is a secret, and would be sent to clients",
        ),
    ] {
        let problems = read_in(&folder.0, &with(from, to)).expect_err(to);
        let shown = format!("{}: {}", problems[0].path, problems[0].message);
        assert!(shown.contains(why), "{shown}");
        assert!(!format!("{problems:?}").contains("hidden"), "{problems:?}");
    }
}

#[test]
fn a_key_in_clear_is_told_where_it_belongs() {
    let pasted = with("{ env = \"OPENAI_API_KEY\" }", "\"sk-upstream\"");
    let problem = super::one_problem(&pasted);
    assert!(
        problem.contains("must not be written in this file") && problem.contains("{ env = \"NAME\" }"),
        "{problem}"
    );
    let (head, _) = SOUND.split_once("key = \"sha256").expect("a client");
    let problem = super::one_problem(&format!("{head}key = \"sk-sg-client\"\n"));
    assert!(problem.contains("sluicegate key new") && !problem.contains("sk-sg-client"), "{problem}");
}

#[test]
fn what_is_shown_of_the_file_holds_no_secret() {
    let text = SOUND
        .replace("url =", "proxy = \"http://user:hidden@proxy:3128\"\nheaders = { x-session-token = \"hidden\", x-team = \"blue\" }\nurl =")
        .replace("path =", "request_headers = { set = { x-secret = \"hidden\", x-plain = \"seen\" } }\npath =");
    let config = sound(&text);
    let shown = config.redacted.to_string();
    assert!(
        !shown.contains("hidden") && !shown.contains("ba7816bf") && !shown.contains(super::UPSTREAM_KEY),
        "{shown}"
    );
    assert_eq!(config.redacted["upstream"]["openai"]["key"]["env"], "OPENAI_API_KEY");
    assert_eq!(config.redacted["upstream"]["openai"]["proxy"], "http://…@proxy:3128");
    assert_eq!(config.redacted["upstream"]["openai"]["headers"]["x-team"], "blue");
    assert_eq!(config.redacted["route"]["openai"]["request_headers"]["set"]["x-plain"], "seen");
    assert_eq!(config.redacted["client"]["team-a"]["key"], "…");
    assert!(!format!("{config:?}").contains(super::UPSTREAM_KEY));
}

#[test]
fn names_of_tables_and_of_keys_do_not_change_what_is_masked() {
    let text = SOUND.replace("upstream.openai", "upstream.keys").replace("[\"openai\"]", "[\"keys\"]");
    let shown = sound(&text).redacted;
    assert_eq!(shown["upstream"]["keys"]["url"], "https://api.openai.com");
    assert_eq!(shown["upstream"]["keys"]["key"]["env"], "OPENAI_API_KEY");
    let document =
        toml::de::DeTable::parse("[server]\nsomething = \"hidden\"\n[elsewhere]\na = 1").expect("TOML");
    let unknown = crate::config::redact::table(document.get_ref());
    assert_eq!(unknown.to_string(), r#"{"elsewhere":"…","server":{"something":"…"}}"#);
}

#[test]
fn a_name_that_looks_like_a_key_is_not_suggested() {
    let text = SOUND
        .replace("upstream.openai", "upstream.sk-proj-Zx81yBq7Lm42")
        .replace("upstreams = [\"openai\"]", "upstreams = [\"sk-proj-Zx81yBq7Lm43\"]");
    let problems = read(&text).expect_err("a name that is none");
    assert!(!format!("{problems:?}").contains("Zx81yBq7"), "{problems:?}");
}
