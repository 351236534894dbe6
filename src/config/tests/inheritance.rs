use std::time::Duration;

use super::{SOUND, UPSTREAM_KEY, sound, with};
use crate::config::{Auth, ClientAddress, Config, TimeoutOverrides, Timeouts, defaults::BODY_LIMIT};

const SECOND: fn(u64) -> Option<Duration> = |seconds| Some(Duration::from_secs(seconds));

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

#[test]
fn nothing_written_is_the_default() {
    let config = sound(SOUND);
    assert_eq!(config.upstreams["openai"].timeout, Timeouts::default());
    assert_eq!(config.routes["openai"].timeout, TimeoutOverrides::default());
    assert_eq!(config.routes["openai"].body_limit, BODY_LIMIT);
    assert_eq!(config.upstreams["openai"].auth, Auth::Bearer);
    assert_eq!(config.upstreams["openai"].keys[0].expose(), UPSTREAM_KEY);
    assert_eq!(config.listeners[0].client_address, ClientAddress::Peer);
    assert!(config.admin.is_none());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn timeouts_are_inherited_key_by_key() {
    let text = with(
        "[upstream.openai]",
        "[defaults]\nbody_limit = \"1MiB\"\ntimeout = { idle = \"20s\", total = \"1h\" }\n[upstream.openai]",
    )
    .replace("url =", "timeout = { connect = \"2s\", total = \"off\" }\nurl =")
    .replace("path =", "timeout = { idle = \"off\", first_byte = \"9s\" }\npath =");
    let config = sound(&text);
    let upstream =
        Timeouts { connect: Duration::from_secs(2), first_byte: SECOND(600), idle: SECOND(20), total: None };
    assert_eq!(config.upstreams["openai"].timeout, upstream);
    let route =
        TimeoutOverrides { idle: Some(None), first_byte: Some(SECOND(9)), ..TimeoutOverrides::default() };
    assert_eq!(config.routes["openai"].timeout, route);
    let both = Timeouts { first_byte: SECOND(9), idle: None, ..upstream };
    assert_eq!(config.routes["openai"].timeout.over(upstream), both);
    assert_eq!(config.routes["openai"].body_limit, 1 << 20);
}

#[test]
fn a_routes_body_limit_wins() {
    let text = with("[upstream.openai]", "[defaults]\nbody_limit = \"1MiB\"\n[upstream.openai]")
        .replace("path =", "body_limit = \"2KiB\"\npath =");
    assert_eq!(sound(&text).routes["openai"].body_limit, 2048);
}

#[test]
fn what_has_no_effect_yet_is_warned_of_unless_off() {
    let with_defaults = |table: &str| {
        warnings(&sound(&with("[upstream.openai]", &format!("[defaults]\n{table}\n[upstream.openai]"))))
    };
    let all = "timeout = { first_token = \"5s\" }\nretry = { retries = 3, backoff = \"1s\" }\nbreaker = { failures = 5 }\nheartbeat = \"15s\"";
    let mut told = with_defaults(all);
    told.sort();
    let expected = ["breaker", "heartbeat", "retry", "timeout.first_token"]
        .map(|key| format!("defaults.{key}: has no effect in this version yet"));
    assert_eq!(told, expected);
    let off = "timeout = { first_token = \"off\" }\nretry = { retries = 0 }\nbreaker = \"off\"\nheartbeat = \"off\"";
    assert_eq!(with_defaults(off), Vec::<String>::new());
    for (table, path) in [("url =", "upstream.openai.retry"), ("path =", "route.openai.retry")] {
        let text = with(table, &format!("retry = {{ retries = 1 }}\n{table}"));
        assert_eq!(warnings(&sound(&text)), [format!("{path}: has no effect in this version yet")]);
    }
}

#[test]
fn what_is_likely_a_slip_is_warned_of() {
    let warned = |from: &str, to: &str| warnings(&sound(&with(from, to))).join("\n");
    assert!(
        warned("https://api.openai.com", "https://api.openai.com/v1").contains("`/v1/v1`, the prefix twice")
    );
    assert!(warned("https://api.openai.com", "http://api.openai.com").contains("without TLS"));
    assert_eq!(warned("https://api.openai.com", "http://127.0.0.1:9999"), "");
    assert_eq!(warned("https://api.openai.com", "http://[::1]:9999"), "");
    let unused = "[upstream.b]\nurl = \"https://b\"\nauth = \"none\"\n[route.openai]";
    assert_eq!(warned("[route.openai]", unused), "upstream.b: no route uses this upstream");
    assert!(
        warned(
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            &format!("sha256:{}", "0".repeat(64))
        )
        .contains("sample's hash")
    );
}

#[test]
fn a_way_out_is_read_from_the_file_or_the_environment() {
    let proxy = |value: &str| {
        let config = sound(&with("url =", &format!("proxy = {value}\nurl =")));
        let warned = config.warnings.len();
        (config.upstreams["openai"].proxy.clone(), warned)
    };
    assert!(proxy("\"off\"").0.is_none());
    let (env, _) = proxy("\"env\"");
    let env = env.expect("HTTPS_PROXY is set");
    assert_eq!(env.url, "http://proxy.internal:3128/");
    assert_eq!(env.bypass, ["localhost", ".internal"]);
    let (clear, warned) = proxy("\"http://u:p@proxy:3128\"");
    assert_eq!(clear.and_then(|proxy| proxy.credentials).expect("user info").expose(), "u:p");
    assert_eq!(warned, 1);
    let (referred, warned) =
        proxy("{ url = \"http://proxy:3128\", credentials = { env = \"OPENAI_API_KEY\" } }");
    assert_eq!(referred.and_then(|proxy| proxy.credentials).expect("a reference").expose(), UPSTREAM_KEY);
    assert_eq!(warned, 0);
}
