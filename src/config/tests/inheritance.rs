use std::time::Duration;

use super::{SOUND, UPSTREAM_KEY, sound, with};
use crate::config::{
    Auth, Balance, Breaker, BreakerOverride, ClientAddress, Config, Retry, RetryOverrides, TimeoutOverrides,
    Timeouts,
};
use crate::openai::Level;

const SECOND: fn(u64) -> Option<Duration> = |seconds| Some(Duration::from_secs(seconds));

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

#[test]
fn nothing_written_is_the_default() {
    let config = sound(SOUND);
    let (upstream, route) = (&config.upstreams["openai"], &config.routes["openai"]);
    assert_eq!(upstream.timeout, Timeouts::default());
    assert_eq!(
        upstream.retry,
        Retry {
            max_wait: seconds(7),
            same_candidate: None,
            retries: 3,
            backoff: seconds(1),
            max_backoff: seconds(8)
        }
    );
    assert_eq!(upstream.breaker, Some(Breaker { failures: 5, open: seconds(10) }));
    assert_eq!((upstream.heartbeat, upstream.max_pending), (None, None));
    assert_eq!(upstream.balance, Balance::LeastPending);
    assert_eq!(route.timeout, TimeoutOverrides::default());
    assert_eq!((route.retry, route.breaker), (RetryOverrides::Inherited, BreakerOverride::Inherited));
    assert_eq!((route.heartbeat, route.commit), (None, None));
    assert!(!route.next_on_context_length && !route.attempt_headers);
    assert_eq!(route.body_limit, 32 << 20);
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
        "[defaults]\nbody_limit = \"1MiB\"\ntimeout = { first_token = \"7s\", idle = \"20s\", total = \"1h\" }\n[upstream.openai]",
    )
    .replace("url =", "timeout = { connect = \"2s\", total = \"off\" }\nurl =")
    .replace("path =", "timeout = { idle = \"off\", first_byte = \"9s\", first_token = \"off\" }\npath =");
    let config = sound(&text);
    let upstream = Timeouts {
        connect: seconds(2),
        first_token: SECOND(7),
        idle: SECOND(20),
        total: None,
        ..Timeouts::default()
    };
    assert_eq!(config.upstreams["openai"].timeout, upstream);
    let route = TimeoutOverrides {
        idle: Some(None),
        first_byte: Some(SECOND(9)),
        first_token: Some(None),
        ..TimeoutOverrides::default()
    };
    assert_eq!(config.routes["openai"].timeout, route);
    let both = Timeouts { first_byte: SECOND(9), first_token: None, idle: None, ..upstream };
    assert_eq!(config.routes["openai"].timeout.over(upstream), both);
    assert_eq!(config.routes["openai"].body_limit, 1 << 20);
}

#[test]
fn a_routes_body_limit_wins() {
    let text = with("[upstream.openai]", "[defaults]\nbody_limit = \"1MiB\"\n[upstream.openai]")
        .replace("path =", "body_limit = \"2KiB\"\npath =");
    assert_eq!(sound(&text).routes["openai"].body_limit, 2048);
}

/// A file with a line in `[defaults]`, in its upstream and in its route.
fn at_each_level([defaults, upstream, route]: [&str; 3]) -> Config {
    let text = with("[upstream.openai]", &format!("[defaults]\n{defaults}\n[upstream.openai]\n{upstream}"));
    sound(&text.replace("[route.openai]", &format!("[route.openai]\n{route}")))
}

#[test]
fn retries_are_inherited_key_by_key() {
    let cases = [
        (["", "", ""], (3, 1, 8), (3, 1, 8)),
        (["retry = { retries = 1, max_backoff = \"9s\" }", "", ""], (1, 1, 9), (1, 1, 9)),
        (["retry = { retries = 1 }", "retry = { backoff = \"2s\" }", ""], (1, 2, 8), (1, 2, 8)),
        (["retry = { retries = 1 }", "retry = {}", "retry = { max_backoff = \"1s\" }"], (1, 1, 8), (1, 1, 1)),
        (["", "retry = { backoff = \"8s\" }", "retry = { retries = 10 }"], (3, 8, 8), (10, 8, 8)),
        (["retry = \"off\"", "", ""], (0, 1, 8), (0, 1, 8)),
        (["", "retry = \"off\"", ""], (0, 1, 8), (0, 1, 8)),
        (["", "", "retry = \"off\""], (3, 1, 8), (0, 1, 8)),
        (["", "", "retry = { retries = 0 }"], (3, 1, 8), (0, 1, 8)),
        // Below an "off", a table begins with the built-in values.
        (["retry = \"off\"", "retry = { backoff = \"2s\" }", "retry = \"off\""], (3, 2, 8), (0, 2, 8)),
        (
            ["retry = { backoff = \"5s\" }", "retry = \"off\"", "retry = { retries = 2 }"],
            (0, 5, 8),
            (2, 1, 8),
        ),
        (["", "retry = { retries = 0, max_backoff = \"9s\" }", "retry = {}"], (0, 1, 9), (3, 1, 8)),
    ];
    for (written, upstream, route) in cases {
        let config = at_each_level(written);
        let inherited = config.upstreams["openai"].retry;
        let own = config.routes["openai"].retry.over(inherited);
        let told = |retry: Retry| (retry.retries, retry.backoff.as_secs(), retry.max_backoff.as_secs());
        assert_eq!((told(inherited), told(own)), (upstream, route), "{written:?}");
    }
}

#[test]
fn the_bounds_of_waits_are_inherited_too() {
    let cases = [
        (["", "", ""], (7, None), (7, None)),
        (
            ["retry = { max_wait = \"1m\" }", "", "retry = { same_candidate = {} }"],
            (60, None),
            (60, Some((1, 3))),
        ),
        (
            [
                "retry = { same_candidate = { attempts = 2 } }",
                "retry = { max_wait = \"2s\" }",
                "retry = { same_candidate = \"off\" }",
            ],
            (2, Some((2, 3))),
            (2, None),
        ),
        (
            [
                "retry = { same_candidate = { attempts = 2 } }",
                "",
                "retry = { same_candidate = { within = \"9s\" } }",
            ],
            (7, Some((2, 3))),
            (7, Some((1, 9))),
        ),
    ];
    for (written, upstream, route) in cases {
        let config = at_each_level(written);
        let inherited = config.upstreams["openai"].retry;
        let own = config.routes["openai"].retry.over(inherited);
        let told = |retry: Retry| {
            let same = retry.same_candidate.map(|same| (same.attempts, same.within.as_secs()));
            (retry.max_wait.as_secs(), same)
        };
        assert_eq!((told(inherited), told(own)), (upstream, route), "{written:?}");
    }
}

#[test]
fn a_wait_that_is_never_reached_is_warned_of() {
    let warned = |retry: &str| {
        let text = with("[upstream.openai]", &format!("[defaults]\nretry = {retry}\n[upstream.openai]"));
        warnings(&sound(&text)).join("\n")
    };
    assert_eq!(
        warned("{ backoff = \"8s\" }"),
        "defaults.retry.backoff: allows no second round: `backoff` is 8s, and `max_wait` is 7s"
    );
    assert!(
        warned("{ max_wait = \"500ms\" }").starts_with("defaults.retry.max_wait: allows no second round")
    );
    assert_eq!(warned("{ backoff = \"8s\", max_wait = \"20s\" }"), "");
}

#[test]
fn a_breaker_is_inherited_key_by_key() {
    let cases = [
        (["", "", ""], Some((5, 10)), Some((5, 10))),
        (["breaker = { open = \"3s\" }", "", ""], Some((5, 3)), Some((5, 3))),
        (["breaker = { open = \"3s\" }", "breaker = { failures = 1 }", ""], Some((1, 3)), Some((1, 3))),
        (
            ["", "breaker = { failures = 1000 }", "breaker = { open = \"4s\" }"],
            Some((1000, 10)),
            Some((1000, 4)),
        ),
        (["breaker = \"off\"", "", ""], None, None),
        (["", "breaker = \"off\"", ""], None, None),
        (["", "", "breaker = \"off\""], Some((5, 10)), None),
        (["breaker = \"off\"", "breaker = {}", "breaker = \"off\""], Some((5, 10)), None),
        (
            ["breaker = { failures = 9 }", "breaker = \"off\"", "breaker = { open = \"4s\" }"],
            None,
            Some((5, 4)),
        ),
    ];
    for (written, upstream, route) in cases {
        let config = at_each_level(written);
        let inherited = config.upstreams["openai"].breaker;
        let own = config.routes["openai"].breaker.over(inherited);
        let told = |breaker: Option<Breaker>| breaker.map(|one| (one.failures, one.open.as_secs()));
        assert_eq!((told(inherited), told(own)), (upstream, route), "{written:?}");
    }
}

#[test]
fn a_heartbeat_is_inherited() {
    let cases = [
        (["heartbeat = \"15s\"", "", ""], SECOND(15), None),
        (["heartbeat = \"15s\"", "heartbeat = \"1s\"", "heartbeat = \"1h\""], SECOND(1), Some(SECOND(3600))),
        (["heartbeat = \"15s\"", "heartbeat = \"off\"", "heartbeat = \"5s\""], None, Some(SECOND(5))),
        (["", "heartbeat = \"15s\"", "heartbeat = \"off\""], SECOND(15), Some(None)),
        (["heartbeat = \"off\"", "", ""], None, None),
    ];
    for (written, upstream, route) in cases {
        let config = at_each_level(written);
        let told = (config.upstreams["openai"].heartbeat, config.routes["openai"].heartbeat);
        assert_eq!(told, (upstream, route), "{written:?}");
    }
}

#[test]
fn a_path_that_is_in_the_url_and_in_the_route_is_warned_of() {
    let warned = |url: &str, route: &str| {
        let text = with("https://api.openai.com", url).replacen("path = \"/v1\"", route, 1);
        warnings(&sound(&text)).join("\n")
    };
    assert_eq!(
        warned("https://openrouter.ai/api/v1", "path = \"/v1\""),
        "route.openai: requests are sent to `https://openrouter.ai/api/v1/v1`, with `/v1` twice: at the end of upstream.openai.url, and \
         in `path` of this route"
    );
    for (url, route, sent) in [
        ("https://a.example/v1", "path = \"/v1\"", "`https://a.example/v1/v1`"),
        ("https://a.example/v1/", "path = \"/v1\"", "`https://a.example/v1/v1`"),
        ("https://a.example/v1", "path = \"/v1/chat\"", "`https://a.example/v1/v1/chat`"),
        ("https://a.example/v1", "path = \"/x\"\nrewrite = \"/v1\"", "`https://a.example/v1/v1`"),
        ("https://a.example/api/v1", "path = \"/api/v1\"", "`https://a.example/api/v1/api/v1`"),
        ("https://a.example/sk-AbCdEfGh12345678/v1", "path = \"/v1\"", "`…/v1`"),
    ] {
        let warning = warned(url, route);
        assert!(warning.contains(sent), "{url} {route}: {warning}");
    }
    for (url, route) in [
        ("https://a.example/v1", "path = \"/v1beta\""),
        ("https://a.example/myv1", "path = \"/v1\""),
        ("https://a.example/v1", "path = \"/v1\"\nrewrite = \"/\""),
        ("https://a.example/api", "path = \"/v1\""),
        ("https://a.example", "path = \"/v1/v1\""),
    ] {
        assert_eq!(warned(url, route), "", "{url} {route}");
    }
    let targets = "targets = [{ url = \"https://a.example\" }, { url = \"https://b.example/v1\" }]";
    let warning = warnings(&sound(&with("url = \"https://api.openai.com\"", targets))).join("\n");
    assert!(warning.contains("at the end of upstream.openai.targets[1].url"), "{warning}");
}

#[test]
fn the_warning_about_a_secret_without_tls_appears_only_where_one_is_sent() {
    let warned = |from: &str, to: &str| warnings(&sound(&with(from, to))).join("\n");
    let url = "url = \"https://api.openai.com\"\nkey = { env = \"OPENAI_API_KEY\" }";
    let open = "url = \"http://10.0.0.5:8000\"\nauth = \"none\"";
    assert_eq!(warned(url, open), "");
    assert_eq!(warned(url, &format!("{open}\nheaders = {{ x-team = \"blue\" }}")), "");
    let secret = "headers = { x-team = { env = \"OPENAI_API_KEY\" } }";
    let warning = "upstream.openai.url: secret header values and all content are sent without TLS";
    assert_eq!(warned(url, &format!("{open}\n{secret}")), warning);
    let several = "targets = [{ url = \"https://a.example\" }, { url = \"http://b.example\" }]\nkey = { env = \"OPENAI_API_KEY\" }";
    let warning = "upstream.openai.targets[1].url: the key and all content are sent without TLS";
    assert_eq!(warned(url, several), warning);
}

#[test]
fn cors_of_a_route_replaces_that_of_the_defaults() {
    let inherited =
        "[defaults]\ncors = { origins = [\"https://a.test\"], max_age = \"5s\" }\n[upstream.openai]";
    let cors = |own: &str| {
        let config =
            sound(&with("[upstream.openai]", inherited).replace("path =", &format!("{own}\npath =")));
        assert!(config.cors.as_ref().is_some_and(|cors| cors.allows(b"https://a.test")));
        config.routes["openai"].cors.clone()
    };
    let read = cors("").expect("that of the defaults");
    assert!(read.allows(b"https://a.test") && !read.allows(b"https://b.test") && !read.allows_all());
    assert_eq!(read.max_age, seconds(5));
    let read = cors("cors = { origins = [\"https://b.test:443/\"] }").expect("its own");
    assert!(read.allows(b"https://b.test") && !read.allows(b"https://a.test"));
    assert_eq!(read.max_age, seconds(600));
    assert!(cors("cors = \"off\"").is_none());
    assert!(sound(SOUND).routes["openai"].cors.is_none() && sound(SOUND).cors.is_none());
}

#[test]
fn what_keeps_pages_out_is_warned_of() {
    let page = "cors = { origins = [\"https://app.test\"] }\n";
    let warned = |listener: &str, more: &str| {
        let text = with("address = \"127.0.0.1:8080\"", listener).replace("path =", &format!("{more}path ="));
        warnings(&sound(&text)).join("\n")
    };
    let here = "address = \"127.0.0.1:8080\"";
    assert_eq!(warned(here, page), "");
    let plain = "route.openai.cors: lists pages with https, but no listener has TLS";
    assert!(warned("address = \"0.0.0.0:8080\"", page).starts_with(plain));
    let behind =
        "address = \"0.0.0.0:8080\"\nclient_address = \"x-forwarded-for\"\ntrusted = [\"10.0.0.0/8\"]";
    assert_eq!(warned(behind, page), "");
    assert_eq!(
        warned("address = \"0.0.0.0:8080\"", "cors = { origins = [\"http://localhost:3000\"] }\n"),
        ""
    );
    let far = "route.openai.cors.origins[0]: is an origin without TLS";
    assert!(warned(here, "cors = { origins = [\"http://app.test\"] }\n").starts_with(far));
    let both = "route.openai.cors: has no effect: `refuse_origin` is true";
    assert_eq!(warned(here, &format!("refuse_origin = true\n{page}")), both);
    let set = "response_headers = { set = { access-control-allow-origin = \"*\" } }\n";
    let ignored = "route.openai.response_headers: `access-control-allow-origin` has no effect";
    assert!(warned(here, &format!("{page}{set}")).starts_with(ignored));
    assert_eq!(warned(here, set), "");
}

#[test]
fn what_is_likely_a_slip_is_warned_of() {
    let warned = |from: &str, to: &str| warnings(&sound(&with(from, to))).join("\n");
    assert!(warned("https://api.openai.com", "http://api.openai.com").contains("without TLS"));
    assert_eq!(warned("https://api.openai.com", "http://127.0.0.1:9999"), "");
    assert_eq!(warned("https://api.openai.com", "http://[::1]:9999"), "");
    assert_eq!(
        warned("path =", "next_on_context_length = true\npath ="),
        "route.openai.next_on_context_length: has no effect: the route has one upstream"
    );
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
fn fewer_http2_connections_than_workers_are_warned_of() {
    let warned = |threads: u32, upstream: &str| {
        let text = with("url =", &format!("{upstream}\nurl ="));
        warnings(&sound(&format!("{text}\n[server]\nthreads = {threads}\n"))).join("\n")
    };
    assert_eq!(
        warned(4, "http2 = true\nmax_connections = 3"),
        "upstream.openai.max_connections: allows 3 HTTP/2 connections, but there are 4 workers (`server.threads`)"
    );
    for (threads, upstream) in
        [(4, "http2 = true\nmax_connections = 4"), (4, "max_connections = 3"), (4, "http2 = true")]
    {
        assert_eq!(warned(threads, upstream), "", "{upstream}");
    }
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

#[test]
fn a_check_of_requests_is_inherited_from_the_defaults_and_can_be_switched_off() {
    for (defaults, route, expected) in [
        ("", "", None),
        ("validate = \"basic\"", "", Some(Level::Basic)),
        ("validate = \"basic\"", "validate = \"strict\"", Some(Level::Strict)),
        ("validate = \"strict\"", "validate = \"off\"", None),
        ("", "validate = \"basic\"", Some(Level::Basic)),
    ] {
        let text = with("[upstream.openai]", &format!("[defaults]\n{defaults}\n[upstream.openai]"));
        let config = sound(&text.replace("path =", &format!("{route}\npath =")));
        assert_eq!(config.routes["openai"].validate, expected, "{defaults} {route}");
    }
}
