use std::path::Path;

use super::{SOUND, one_problem, read, sound, with};
use crate::config::{Balance, Choice, Commit, Problem, Problems, load};

const SIX: &str = r#"
[[listener]]
address = "localhost:8080"

[server]
header-timout = "10s"
threads = "two"

[upstream.openai]
url = "https://api.openai.com"
key = "pasted-in-clear"
timeout = { idle = 30 }

[route.openai]
path = "/v1"
upstreams = ["opnai"]
access = "open"
"#;

#[test]
fn six_mistakes_are_six_problems_with_their_places() {
    let problems = read(SIX).expect_err("six mistakes");
    let places: Vec<(&str, usize, usize)> =
        problems.iter().map(|problem| (problem.path.as_str(), problem.line, problem.column)).collect();
    let expected = [
        ("listener[0].address", 3, 11),
        ("server.header-timout", 6, 17),
        ("server.threads", 7, 11),
        ("upstream.openai.key", 11, 7),
        ("upstream.openai.timeout.idle", 12, 20),
        ("route.openai.upstreams[0]", 16, 14),
    ];
    assert_eq!(places, expected);
}

#[test]
fn they_are_shown_in_blocks_with_help() {
    let problems = read(SIX).expect_err("six mistakes");
    let shown = Problems { file: "gateway.toml".into(), problems }.to_string();
    let unknown = "error: server.header-timout: unknown key\n  --> gateway.toml:6:17\n  help: did you mean `header_timeout`?\n\n";
    assert!(shown.contains(unknown), "{shown}");
    assert!(
        shown.contains("no upstream `opnai` is defined") && shown.contains("did you mean `openai`?"),
        "{shown}"
    );
    assert!(shown.ends_with("gateway.toml: 6 problems"), "{shown}");
    assert!(!shown.contains("pasted-in-clear"), "{shown}");
}

/// The message and the help of the problems that the lines cause.
fn said(from: &str, to: &str) -> String {
    let problems = read(&with(from, to)).expect_err(to);
    problems
        .iter()
        .map(|problem| format!("{}: {} ({})\n", problem.path, problem.message, problem.help))
        .collect()
}

#[test]
fn the_commonest_slips_are_answered_with_what_to_write() {
    let key = "key = { env = \"OPENAI_API_KEY\" }";
    for written in ["os.environ/OPENAI_API_KEY", "$OPENAI_API_KEY", "${OPENAI_API_KEY}"] {
        let said = said(key, &format!("key = {written:?}"));
        assert!(said.contains("write { env = \"OPENAI_API_KEY\" }"), "{said}");
    }
    for (line, expected) in [
        ("num_retries = 2", "write retry = { retries = 2 }"),
        ("fallbacks = [\"x\"]", "list several upstreams"),
        ("rpm = 10", "max_pending"),
        ("timeout = 600", "write it as { total = \"600s\" }"),
        ("auth = none", "text needs quotes (write auth = \"none\""),
        ("timeout = { idle = \"5\" }", "as in 5s"),
    ] {
        let said = said(key, &format!("{key}\n{line}"));
        assert!(said.contains(expected), "{line}: {said}");
    }
    let model = "[model.gpt-3.5-turbo]\nupstreams = [\"openai\"]\n";
    let problems = read(&format!("{SOUND}\n{model}")).expect_err("a dot");
    let [Problem { message, help, .. }] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(message, "a name with a dot needs quotes");
    assert_eq!(help, "write [model.\"gpt-3.5-turbo\"]");
}

#[test]
fn what_is_no_toml_is_one_problem_with_its_place() {
    let problems = read("[server]\nthreads = = 2\n").expect_err("no TOML");
    let [Problem { line: 2, column: 11, .. }] = problems.as_slice() else { panic!("{problems:?}") };
}

#[test]
fn what_is_defined_twice_is_named_unless_it_may_be_a_key() {
    let twice = one_problem(&format!("{SOUND}\n[client.team-a]\n"));
    assert!(twice.starts_with(": `team-a` is defined twice"), "{twice}");
    let key = one_problem("[client]\nsk-AbCdEfGh12345678 = 1\nsk-AbCdEfGh12345678 = 2\n");
    assert!(key.starts_with(": a name is defined twice") && !key.contains("AbCd"), "{key}");
}

#[test]
fn a_file_that_is_not_there_is_a_problem_too() {
    let problems = load(Path::new("/nonexistent/gateway.toml")).expect_err("not there");
    assert!(problems.to_string().contains("cannot be read"), "{problems}");
}

#[test]
fn an_empty_file_lacks_all_that_is_required() {
    let problems = read("").expect_err("nothing there");
    let mut paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["listener", "route", "upstream"]);
}

#[test]
fn unknown_keys_are_found_at_every_level() {
    let mistakes = [
        (
            "[upstream.openai]",
            "[clients.x]\n[upstream.openai]",
            "clients: unknown key (did you mean `client`?)",
        ),
        ("key = { env =", "key = { enf =", "upstream.openai.key.enf: unknown key (did you mean `env`?)"),
        (
            "path = \"/v1\"",
            "path = \"/v1\"\nrewrites = \"/\"",
            "route.openai.rewrites: unknown key (did you mean `rewrite`?)",
        ),
        (
            "path = \"/v1\"",
            "path = \"/v1\"\nrequest_headers = { sets = {} }",
            "route.openai.request_headers.sets: unknown key (did you mean `set`?)",
        ),
        (
            "url = \"https://api.openai.com\"",
            "targets = [{ url = \"https://a\", wieght = 2 }]",
            "upstream.openai.targets[0].wieght: unknown key (did you mean `weight`?)",
        ),
    ];
    for (from, to, expected) in mistakes {
        let problems = read(&with(from, to)).expect_err(to);
        let told =
            problems.iter().any(|one| format!("{}: {} ({})", one.path, one.message, one.help) == expected);
        assert!(told, "{expected}: {problems:#?}");
    }
}

const LISTENER: &str = "address = \"127.0.0.1:8080\"";
const URL: &str = "url = \"https://api.openai.com\"";
const KEY: &str = "key = { env = \"OPENAI_API_KEY\" }";
const PATH: &str = "path = \"/v1\"";
const UPSTREAMS: &str = "upstreams = [\"openai\"]";
const CLIENT: &str = "[client.team-a]";

/// What is replaced, by what, and what the problem must say: one mistake each.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("path =", "cors = true\npath =", "cors: must be a table or \"off\""),
    ("path =", "cors = {}\npath =", "cors.origins: is missing"),
    ("path =", "cors = { origins = [] }\npath =", "cors.origins: is an empty list"),
    ("path =", "cors = { origins = [\"app.test\"] }\npath =", "cors.origins[0]: is not an origin"),
    ("path =", "cors = { origins = [\"null\"] }\npath =", "cors.origins[0]: stands for pages of any site"),
    (
        "path =",
        "cors = { origins = [\"https://*.com\"] }\npath =",
        "origins[0]: stands for the pages of a whole",
    ),
    (
        "path =",
        "cors = { origins = [\"https://app.test\", \"https://APP.test:443\"] }\npath =",
        "origins[1]: is in this list twice",
    ),
    ("path =", "cors = { origins = [\"*\"], max_age = \"2d\" }\npath =", "max_age: must be from 1s to "),
    ("path =", "cors = { origins = [\"*\"], credentials = true }\npath =", "cors.credentials: unknown key"),
    ("[route", "[defaults]\ncors = [\"*\"]\n[route", "defaults.cors: must be a table or \"off\""),
    (LISTENER, "h2c = true", "listener[0].address: is missing"),
    (LISTENER, "address = \"127.0.0.1:8080\"\nh2c = \"yes\"", "h2c: must be true or false, not a string"),
    (
        LISTENER,
        "address = \"127.0.0.1:8080\"\nclient_address = \"x-forwarded-for\"",
        "listener[0].trusted: is missing",
    ),
    (LISTENER, "address = \"127.0.0.1:8080\"\ntrusted = [\"::1\"]", "trusted: has no meaning"),
    (
        LISTENER,
        "address = \"127.0.0.1:8080\"\nclient_address = \"proxy-protocol\"\ntrusted = [\"10.0.0.1/8\"]",
        "trusted[0]: is not an IP address or an address range",
    ),
    (
        LISTENER,
        "address = \"127.0.0.1:8080\"\n[[listener]]\naddress = \"0.0.0.0:8080\"",
        "listener[1].address: is already used by listener[0].address",
    ),
    (
        LISTENER,
        "address = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nh2c = true",
        "listener[1].address: is already used by listener[0].address",
    ),
    (CLIENT, "[admin]\naddress = \"127.0.0.1:8080\"\n[client.team-a]", "admin.address: is already used by"),
    (
        CLIENT,
        "[admin]\naddress = \"0.0.0.0:9901\"\n[client.team-a]",
        "admin.address: is not a loopback address, and `token` is not set",
    ),
    (CLIENT, "[server]\nthreads = 0\n[client.team-a]", "server.threads: must be from 1 to 256"),
    (CLIENT, "[server]\nthreads = 1.5\n[client.team-a]", "must be a whole number, not a fraction"),
    (CLIENT, "[server]\nmax_header_size = \"1KiB\"\n[client.team-a]", "must be from 8KiB to 1MiB"),
    (
        CLIENT,
        "[server]\nmax_buffered = 1024\n[client.team-a]",
        "server.max_buffered: must be a size, as a string, not a number (write a whole number with a unit",
    ),
    (
        CLIENT,
        "[server]\nkeep_alive = 75\n[client.team-a]",
        "server.keep_alive: must be a time span, as a string, not a number (write a whole number with a unit",
    ),
    (
        CLIENT,
        "[server]\nkeep_alive = \"75\"\n[client.team-a]",
        "server.keep_alive: has a number without a unit",
    ),
    (CLIENT, "[server]\nkeep_alive = \"off\"\n[client.team-a]", "server.keep_alive: is not a time span"),
    (CLIENT, "[server]\nkeep_alive = \"0s\"\n[client.team-a]", "server.keep_alive: must be from 1ms to 7d"),
    (
        CLIENT,
        "[log]\nformat = \"jsn\"\n[client.team-a]",
        "log.format: must be \"json\" or \"text\" (did you mean `json`?)",
    ),
    (
        CLIENT,
        "[defaults]\nretry = { retries = 99 }\n[client.team-a]",
        "defaults.retry.retries: must be from 0 to 10",
    ),
    (
        CLIENT,
        "[defaults]\nretry = { same_candidate = 1 }\n[client.team-a]",
        "defaults.retry.same_candidate: must be a table or \"off\"",
    ),
    (
        CLIENT,
        "[defaults]\nretry = { same_candidate = { attempts = 0 } }\n[client.team-a]",
        "defaults.retry.same_candidate.attempts: must be from 1 to 10",
    ),
    (
        CLIENT,
        "[defaults]\nretry = { max_wait = \"0s\" }\n[client.team-a]",
        "defaults.retry.max_wait: must be from 1ms to 7d",
    ),
    (
        CLIENT,
        "[defaults]\nbreaker = true\n[client.team-a]",
        "defaults.breaker: must be a table or \"off\" (for example",
    ),
    (
        CLIENT,
        "[defaults]\nretry = \"on\"\n[client.team-a]",
        "defaults.retry: must be a table or \"off\" (for example",
    ),
    (CLIENT, "[defaults]\nbreaker = { failures = 0 }\n[client.team-a]", "failures: must be from 1 to 1000"),
    (
        CLIENT,
        "[defaults]\nbreaker = { open = \"0s\" }\n[client.team-a]",
        "breaker.open: must be from 1ms to 7d",
    ),
    (
        CLIENT,
        "[defaults]\nbreaker = { opens = \"1s\" }\n[client.team-a]",
        "unknown key (did you mean `open`?)",
    ),
    (
        CLIENT,
        "[defaults]\nheartbeat = \"999ms\"\n[client.team-a]",
        "defaults.heartbeat: must be from 1s to 1h",
    ),
    (
        CLIENT,
        "[defaults]\ntimeout = { first_token = 5 }\n[client.team-a]",
        "defaults.timeout.first_token: must be a time span, as a string, or \"off\"",
    ),
    (
        CLIENT,
        "[defaults]\nretry = { backoff = \"9s\" }\n[client.team-a]",
        "defaults.retry.backoff: must not be above `max_backoff`, which is 8s (set `max_backoff` too)",
    ),
    (
        CLIENT,
        "[defaults]\nretry = { backoff = \"3s\", max_backoff = \"2s\" }\n[client.team-a]",
        "defaults.retry.max_backoff: must not be below `backoff`, which is 3s",
    ),
    (URL, "", "upstream.openai.url: is missing"),
    (URL, "url = \"https://a\"\ntargets = []", "upstream.openai.targets: `url` is set too"),
    (URL, "targets = []", "upstream.openai.targets: is an empty list"),
    (
        URL,
        "targets = [{ url = \"https://a\" }, { url = \"https://a/\" }]",
        "targets[1]: has the same URL as an earlier target",
    ),
    (URL, "targets = [{ url = \"https://a\", weight = 0 }]", "weight: must be from 1 to 1000"),
    (URL, "url = \"https://a?b=c\"", "must not have a query"),
    (KEY, "", "upstream.openai.key: is missing"),
    (
        KEY,
        "key = { env = \"NOT_SET\" }",
        "upstream.openai.key.env: the environment variable `NOT_SET` is not set",
    ),
    (KEY, "key = { env = \"A\", file = \"b\" }", "upstream.openai.key: must have exactly one of the keys"),
    (
        KEY,
        "key = { file = \"missing.key\" }",
        "upstream.openai.key.file: the file `missing.key` does not exist",
    ),
    (
        KEY,
        "key = { credential = \"../x\" }",
        "upstream.openai.key.credential: is not a valid name of a systemd credential",
    ),
    (KEY, "key = { env = \"OPENAI_API_KEY\" }\nauth = \"none\"", "upstream.openai.key: is not used"),
    (
        KEY,
        "key = { env = \"OPENAI_API_KEY\" }\nauth = { header = \"transfer-encoding\" }",
        "auth.header: `transfer-encoding` cannot be named here",
    ),
    (
        KEY,
        "key = { env = \"OPENAI_API_KEY\" }\nheaders = { host = \"a\" }",
        "headers.host: `host` cannot be named here",
    ),
    (KEY, "key = { env = \"OPENAI_API_KEY\" }\nheaders = { x-api-key = \"a\" }", "`x-api-key` carries a key"),
    (
        KEY,
        "key = { env = \"OPENAI_API_KEY\" }\nheaders = { x-sluicegate-timeout = \"1s\" }",
        "headers.x-sluicegate-timeout: `x-sluicegate-timeout` cannot be named here",
    ),
    (
        PATH,
        "path = \"/v1\"\nrequest_headers = { allow = [\"proxy-foo\", \"sec-websocket-protocol\"] }",
        "allow[0]: `proxy-foo` cannot be named here",
    ),
    (PATH, "path = \"/v1/*\"", "route.openai.path: must not have a `*`: a prefix always matches"),
    (PATH, "path = \"/v1;x\"", "route.openai.path: must not have a semicolon"),
    (
        KEY,
        "key = { env = \"OPENAI_API_KEY\" }\nproxy = \"socks5://a\"",
        "upstream.openai.proxy: must begin with http://",
    ),
    (
        KEY,
        "key = { env = \"OPENAI_API_KEY\" }\ntls = { certificate = \"\" }",
        "upstream.openai.tls.key: is missing",
    ),
    (URL, "url = \"https://a\"\nbalance = \"least\"", "must be \"least_pending\" or \"round_robin\""),
    (URL, "url = \"https://a\"\nmax_pending = 0", "upstream.openai.max_pending: must be from 1 to 1000000"),
    (URL, "url = \"https://a\"\nheartbeat = \"2h\"", "upstream.openai.heartbeat: must be from 1s to 1h"),
    (
        URL,
        "url = \"https://a\"\nretry = { max_backoff = \"500ms\" }",
        "upstream.openai.retry.max_backoff: must not be below `backoff`, which is 1s",
    ),
    (PATH, "", "route.openai.path: is missing"),
    (
        PATH,
        "path = \"/v1\"\ncommit = \"first-token\"",
        "commit: must be \"headers\" or \"first_token\" (did you mean",
    ),
    (PATH, "path = \"/v1\"\nattempt_headers = 1", "attempt_headers: must be true or false, not a number"),
    (
        PATH,
        "path = \"/v1\"\nnext_on_context_length = \"yes\"",
        "next_on_context_length: must be true or false",
    ),
    (PATH, "path = \"/v1\"\nretry = { retries = -1 }", "route.openai.retry.retries: must be from 0 to 10"),
    (
        PATH,
        "path = \"/v1\"\nbreaker = { failures = 1001 }",
        "route.openai.breaker.failures: must be from 1 to",
    ),
    (PATH, "path = \"/v1\"\nheartbeat = 15", "route.openai.heartbeat: must be a time span"),
    (PATH, "path = \"/v1/\"", "route.openai.path: must not end with `/`"),
    (PATH, "path = \"/v1\"\nrewrite = \"v1\"", "route.openai.rewrite: must begin with `/`"),
    (PATH, "path = \"/v1\"\nhosts = [\"https://a\"]", "hosts[0]: is not a host name"),
    (PATH, "path = \"/v1\"\nhosts = [\"a\", \"A\"]", "hosts[1]: is in this list twice"),
    (PATH, "path = \"/v1\"\nmethods = [\"post\"]", "methods[0]: is not a method"),
    (PATH, "path = \"/v1\"\nmethods = [\"CONNECT\"]", "methods[0]: is a method that is never forwarded"),
    (PATH, "path = \"/v1\"\nbody_limit = \"2TiB\"", "body_limit: must be from 1KiB to 1TiB"),
    (
        PATH,
        "path = \"/v1\"\nrequest_headers = { allow = [\"authorization\"] }",
        "`authorization` carries a key",
    ),
    (PATH, "path = \"/v1\"\nrequest_headers = { allow = [\"te\"] }", "`te` cannot be named here"),
    (
        PATH,
        "path = \"/v1\"\nresponse_headers = { set = { x-a = \"1\" }, remove = [\"X-A\"] }",
        "`x-a` is both set and removed",
    ),
    (UPSTREAMS, "upstreams = []", "route.openai.upstreams: is an empty list"),
    (
        UPSTREAMS,
        "upstreams = [\"openai\", 1]",
        "route.openai.upstreams[1]: must be the name of an upstream, or a table",
    ),
    (UPSTREAMS, "upstreams = [\"openai\", \"openai\"]", "route.openai.upstreams[1]: is in this list twice"),
    (
        UPSTREAMS,
        "upstreams = [\"openai\", { upstream = \"opnai\" }]",
        "upstreams[1].upstream: no upstream `opnai` is defined (did you mean `openai`?)",
    ),
    (UPSTREAMS, "upstreams = [{ model = \"m\" }]", "route.openai.upstreams[0].upstream: is missing"),
    (
        UPSTREAMS,
        "upstreams = [{ upstream = \"openai\", modl = \"m\" }]",
        "route.openai.upstreams[0].modl: unknown key (did you mean `model`?)",
    ),
    (
        UPSTREAMS,
        "upstreams = [{ upstream = \"openai\", model = \"\" }]",
        "route.openai.upstreams[0].model: is not the name of a model",
    ),
    (
        UPSTREAMS,
        "upstreams = [\"openai\"]\n[route.b]\npath = \"/v1\"\nupstreams = [\"openai\"]",
        "route.openai: matches the same requests as route `b`",
    ),
    (
        CLIENT,
        "[client.b]\nkey = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n[client.team-a]",
        "client.team-a.key: is the same key as client.b.key",
    ),
    (CLIENT, "[client.b]\nkeys = []\n[client.team-a]", "client.b.keys: is an empty list"),
    (
        CLIENT,
        "[client.team-a]\nroutes = [\"opnai\"]",
        "client.team-a.routes[0]: no route `opnai` is defined (did you mean `openai`?)",
    ),
    (CLIENT, "[client.team-a]\nmodels = [\"a*b\"]", "client.team-a.models[0]: is not the name of a model"),
    (CLIENT, "[client.\"a b\"]", "is not a valid name"),
];

#[test]
fn each_value_is_checked() {
    for (from, to, expected) in MISTAKES {
        let text = with(from, to);
        let problems = read(&text).expect_err(&text);
        let told: Vec<String> =
            problems.iter().map(|one| format!("{}: {} ({})", one.path, one.message, one.help)).collect();
        assert!(told.iter().any(|one| one.contains(expected)), "{expected}\n{told:#?}");
        assert!(told.len() <= 2, "one mistake, many problems: {told:#?}");
    }
}

#[test]
fn a_route_needs_callers_or_says_that_it_needs_none() {
    let (nobody, _) = SOUND.split_once("[client").expect("a client");
    let problem = one_problem(nobody);
    assert!(
        problem.starts_with("route.openai: requires a client key") && problem.contains("sluicegate key new"),
        "{problem}"
    );
    let open = nobody.replace("path = \"/v1\"", "path = \"/v1\"\naccess = \"open\"");
    assert!(sound(&open).routes.values().all(|route| route.open));
}

#[test]
fn routes_of_one_path_are_told_apart_by_host_and_method() {
    let routes = |second: &str| {
        let text = format!("{SOUND}\n[route.b]\npath = \"/v1\"\nupstreams = [\"openai\"]\n{second}\n");
        read(&text).map(|config| config.routes.len()).map_err(|problems| problems.len())
    };
    assert_eq!(routes("hosts = [\"a.example\"]"), Ok(2));
    assert_eq!(routes("methods = [\"GET\"]"), Ok(2));
    assert_eq!(routes(""), Err(1));
}

#[test]
fn an_upstream_may_be_asked_again_for_another_model() {
    let read = |list: &str| read(&with(UPSTREAMS, &format!("upstreams = [{list}]")));
    let (plain, table) = ("\"openai\"", "{ upstream = \"openai\" }");
    let (mini, max) =
        ("{ upstream = \"openai\", model = \"mini\" }", "{ upstream = \"openai\", model = \"max\" }");
    let config = read(&format!("{mini}, {plain}, {max}")).expect("sound");
    let choice = |model: Option<&str>| Choice { upstream: "openai".into(), model: model.map(Into::into) };
    assert_eq!(config.routes["openai"].upstreams, [choice(Some("mini")), choice(None), choice(Some("max"))]);
    assert!(config.warnings.is_empty(), "more than one is nothing to be warned of: {:?}", config.warnings);
    for (twice, place) in [([plain, table, mini], 1), ([mini, plain, mini], 2)] {
        let problems = read(&twice.join(", ")).expect_err("twice");
        let [one] = problems.as_slice() else { panic!("{problems:#?}") };
        assert_eq!(one.path, format!("route.openai.upstreams[{place}]"));
    }
}

#[test]
fn a_models_name_can_stand_in_a_request_as_it_is() {
    let model = |name: &str| {
        let list = format!("upstreams = [{{ upstream = \"openai\", model = {name} }}]");
        read(&with(UPSTREAMS, &list)).map(|config| config.routes["openai"].upstreams[0].model.clone())
    };
    let (longest, longer) = (format!("\"{}\"", "m".repeat(256)), format!("\"{}\"", "m".repeat(257)));
    for name in
        ["\"gpt-4o\"", "\"@cf/meta/llama-3.1\"", "\"ft:gpt-4o:org::id\"", "\"my model, größer\"", &longest]
    {
        assert_eq!(model(name).expect(name).as_deref(), Some(name.trim_matches('"')));
    }
    for name in ["\"a\\\"b\"", "\"a'b\"", "\"a\\\\b\"", "\"a\\nb\"", "\"a\\u0000\"", "\"a\\u202Eb\"", &longer]
    {
        let problems = model(name).expect_err(name);
        let [one] = problems.as_slice() else { panic!("{name}: {problems:#?}") };
        assert_eq!(one.path, "route.openai.upstreams[0].model");
        assert!(
            one.message.contains("is not the name of a model") && one.help.contains("1 to 256"),
            "{one:?}"
        );
    }
}

#[test]
fn a_routes_waits_are_in_order_with_those_that_it_inherits() {
    let text = |upstream: &str, route: &str| {
        with(URL, &format!("{URL}\n{upstream}")).replace(PATH, &format!("{PATH}\n{route}"))
    };
    let told = one_problem(&text("retry = { max_backoff = \"2s\" }", "retry = { backoff = \"3s\" }"));
    assert!(
        told.starts_with("route.openai.retry.backoff: must not be above `max_backoff`, which is 2s"),
        "{told}"
    );
    let told = one_problem(&text("retry = { backoff = \"3s\" }", "retry = { max_backoff = \"2s\" }"));
    assert!(
        told.starts_with("route.openai.retry.max_backoff: must not be below `backoff`, which is 3s"),
        "{told}"
    );
    // Below an "off" it is the built-in ones that count.
    sound(&text("retry = { retries = 0, max_backoff = \"2s\" }", "retry = { backoff = \"3s\" }"));
    // One mistake is reported once.
    let told =
        one_problem(&text("retry = { backoff = \"3s\" }", "retry = { backoff = 1, max_backoff = \"2s\" }"));
    assert!(told.starts_with("route.openai.retry.backoff: must be a time span"), "{told}");
    let told = one_problem(&text("retry = { backoff = \"9s\" }", "retry = { retries = 1 }"));
    assert!(told.starts_with("upstream.openai.retry.backoff: "), "{told}");
}

#[test]
fn what_an_upstream_and_a_route_say_of_their_own_is_read() {
    let text = with(URL, &format!("{URL}\nbalance = \"round_robin\"\nmax_pending = 1000000"));
    let own = "commit = \"first_token\"\nnext_on_context_length = true\nattempt_headers = true";
    let config = sound(&text.replace(PATH, &format!("{PATH}\n{own}")));
    let (upstream, route) = (&config.upstreams["openai"], &config.routes["openai"]);
    assert_eq!((&upstream.balance, upstream.max_pending), (&Balance::RoundRobin, Some(1_000_000)));
    assert_eq!(route.commit, Some(Commit::FirstToken));
    assert!(route.next_on_context_length && route.attempt_headers);
    let headers = sound(&with(PATH, &format!("{PATH}\ncommit = \"headers\"")));
    assert_eq!(headers.routes["openai"].commit, Some(Commit::Headers));
}
