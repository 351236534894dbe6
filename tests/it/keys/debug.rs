//! What the program would print of itself, if anything ever did.

use std::{ffi::OsString, path::Path};

use sluicegate::{
    config::{Env, parse},
    snapshot::Snapshot,
};

use super::forms::revealed;

const KEY: &str = "sk-upstream-Zx81yBq7Lm42Kd93";

const TEXT: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[admin]
address = "127.0.0.1:9901"
token = { env = "KEY" }
[upstream.openai]
url = "http://api.example.com"
keys = [{ env = "KEY" }, { env = "KEY" }]
headers = { x-secret = "sk-upstream-Zx81yBq7Lm42Kd93" }
proxy = { url = "http://proxy:3128", credentials = { env = "LOGIN" } }
[route.openai]
path = "/v1"
upstreams = ["openai"]
access = "open"
request_headers = { set = { x-session-token = "sk-upstream-Zx81yBq7Lm42Kd93" } }
"#;

/// Keys as they were read, as header values, in headers that sound like credentials, within `Basic`, and among what is kept from crossing.
#[test]
fn neither_a_configuration_nor_a_snapshot_shows_a_key() {
    let variable = |name: &str| match name {
        "KEY" => Some(OsString::from(KEY)),
        "LOGIN" => Some(format!("user:{KEY}").into()),
        _ => None,
    };
    let config = parse(TEXT, &Env::new(Path::new("/nonexistent"), &variable)).unwrap();
    let of_config = format!("{config:?}");
    let snapshot = Snapshot::compile(config, None).unwrap();
    for shown in [of_config, format!("{snapshot:?}"), snapshot.redacted.to_string()] {
        assert!(shown.contains("openai"), "{shown}");
        assert_eq!(revealed(shown.as_bytes(), KEY), None);
    }
}
