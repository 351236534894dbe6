use proptest::prelude::*;

use super::{super::secret_scanner::tests::form, *};

type Pairs = Vec<(String, String)>;

/// [`super::to_caller`], which does the same when it remembers the names.
fn to_caller(headers: &mut HeaderMap, rules: &Rules, keys: &SecretScanner<'_>) -> Option<HeaderValue> {
    let mut names = PassedNames::default();
    let remembering = [(); 2].map(|()| {
        let mut headers = headers.clone();
        (super::to_caller(&mut headers, rules, keys, Some(&mut names)), headers)
    });
    let id = super::to_caller(headers, rules, keys, None);
    assert_eq!(remembering, [(); 2].map(|()| (id.clone(), headers.clone())));
    id
}

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers
            .append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// What is there, sorted by name, each name's values in their order.
fn pairs(headers: &HeaderMap) -> Pairs {
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    let mut pairs: Pairs = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    pairs
}

fn names(headers: &HeaderMap) -> Vec<String> {
    pairs(headers).into_iter().map(|(name, _)| name).collect()
}

fn list(names: &[&str]) -> Vec<HeaderName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// What of these names is left, going each way.
fn left(given: &[&str], rules: &Rules) -> [Vec<String>; 2] {
    let given: Vec<_> = given.iter().map(|&name| (name, "1")).collect();
    let mut up = map(&given);
    to_upstream(&mut up, rules, &SecretScanner::default());
    let mut down = map(&given);
    to_caller(&mut down, rules, &SecretScanner::default());
    [names(&up), names(&down)]
}

const HOP_BY_HOP: [&str; 10] = [
    "connection",
    // `Connection: close` names it.
    "close",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
];
const CREDENTIALS: [&str; 5] =
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "sec-websocket-protocol"];
const OF_THE_CALLER: [&str; 10] = [
    "cookie",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-anything",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "openai-organization",
    "openai-project",
];
const OF_THE_UPSTREAM: [&str; 6] = [
    "set-cookie",
    "alt-svc",
    "strict-transport-security",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
];

#[test]
fn hop_by_hop_headers_go_nowhere() {
    assert_eq!(left(&HOP_BY_HOP, &Rules::default()), [[""; 0]; 2]);
}

#[test]
fn a_request_leaves_the_caller_behind() {
    let [up, _] = left(&[&CREDENTIALS[..], &OF_THE_CALLER, &["host", "expect"]].concat(), &Rules::default());
    assert_eq!(up, [""; 0]);
}

#[test]
fn an_answer_leaves_the_account_behind() {
    let [_, down] = left(&OF_THE_UPSTREAM, &Rules::default());
    assert_eq!(down, [""; 0]);
}

#[test]
fn what_sdks_read_comes_through() {
    let told = [
        "content-length",
        "content-type",
        "openai-processing-ms",
        "openai-version",
        "proxy-status",
        "retry-after",
        "retry-after-ms",
        "server",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-tokens",
        "x-should-retry",
    ];
    assert_eq!(left(&told, &Rules::default())[1], told);
    let asked = [
        "accept",
        "anthropic-version",
        "content-length",
        "content-type",
        "idempotency-key",
        "openai-beta",
        "user-agent",
        "x-stainless-lang",
    ];
    assert_eq!(left(&asked, &Rules::default())[0], asked);
}

#[test]
fn connection_takes_out_what_it_names_but_not_the_length() {
    let given = [
        ("connection", "keep-alive, X-One"),
        ("connection", "x-two ,, Content-Length,\"x-three\""),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("content-length", "4"),
    ];
    let kept = [("content-length".to_owned(), "4".to_owned()), ("x-three".to_owned(), "3".to_owned())];
    let mut headers = map(&given);
    to_upstream(&mut headers, &Rules::default(), &SecretScanner::default());
    assert_eq!(pairs(&headers), kept);
    let mut headers = map(&given);
    to_caller(&mut headers, &Rules::default(), &SecretScanner::default());
    assert_eq!(pairs(&headers), kept);
}

#[test]
fn connection_cannot_take_out_what_a_route_sets() {
    let mut headers = map(&[("connection", "openai-beta"), ("openai-beta", "theirs")]);
    let rules = Rules {
        set: vec![("openai-beta".parse().unwrap(), HeaderValue::from_static("ours"))],
        ..Rules::default()
    };
    to_upstream(&mut headers, &rules, &SecretScanner::default());
    assert_eq!(pairs(&headers), [("openai-beta".to_owned(), "ours".to_owned())]);
}

#[test]
fn the_upstreams_request_id_changes_its_name() {
    let mut headers = map(&[("x-request-id", "req_up"), ("x-upstream-request-id", "forged")]);
    assert_eq!(to_caller(&mut headers, &Rules::default(), &SecretScanner::default()).unwrap(), "req_up");
    assert_eq!(pairs(&headers), [("x-upstream-request-id".to_owned(), "req_up".to_owned())]);

    let mut headers = map(&[("x-request-id", "req-sk-very-secret")]);
    assert_eq!(
        to_caller(&mut headers, &Rules::default(), &SecretScanner::new([&b"sk-very-secret"[..]])),
        None
    );
    assert!(headers.is_empty());
}

#[test]
fn rules_allow_what_is_withheld_and_restrict_the_rest() {
    let allow = Rules { allow: list(&["cookie", "set-cookie", "x-forwarded-for"]), ..Rules::default() };
    assert_eq!(
        left(&["cookie", "x-forwarded-for", "x-forwarded-proto"], &allow)[0],
        ["cookie", "x-forwarded-for"]
    );
    assert_eq!(left(&["set-cookie", "alt-svc"], &allow)[1], ["set-cookie"]);

    let remove = Rules { remove: list(&["x-a", "content-length"]), ..Rules::default() };
    assert_eq!(left(&["x-a", "x-b", "content-length"], &remove), [["content-length", "x-b"]; 2]);

    let only = Rules { only: list(&["x-a", "cookie", "set-cookie"]), ..Rules::default() };
    let given = ["x-a", "x-b", "content-length", "content-type", "cookie", "set-cookie"];
    assert_eq!(
        left(&given, &only),
        [&["content-length", "set-cookie", "x-a"][..], &["content-length", "cookie", "x-a"]]
    );
}

#[test]
fn no_rule_lets_a_credential_or_a_hop_by_hop_header_through() {
    let never: Vec<&str> = HOP_BY_HOP.into_iter().chain(CREDENTIALS).collect();
    let set = |name: &&str| (name.parse().unwrap(), HeaderValue::from_static("set"));
    let rules = Rules {
        set: never.iter().chain(&["content-length", "trailer"]).map(set).collect(),
        allow: list(&never),
        only: list(&never),
        ..Rules::default()
    };
    let [up, down] = left(&never, &rules);
    assert_eq!(up, [""; 0]);
    assert!(HOP_BY_HOP.iter().all(|name| !down.iter().any(|left| left == name)), "{down:?}");
}

/// CGI and its heirs read `_` and `-` as the same, so what a rule says of the one it says of the other.
#[test]
fn no_rule_is_evaded_by_an_underscore() {
    let rules = Rules {
        set: vec![("x-tenant-id".parse().unwrap(), HeaderValue::from_static("blue"))],
        remove: list(&["x-debug"]),
        ..Rules::default()
    };
    let given = ["x-tenant_id", "x_tenant_id", "x_debug", "x_tenant_ids", "x_kept"];
    let [up, down] = left(&given, &rules);
    assert_eq!(up, ["x-tenant-id", "x_kept", "x_tenant_ids"]);
    assert_eq!(down.len(), given.len() + 1, "{down:?}");

    let rules = Rules { only: list(&["x-kept"]), ..Rules::default() };
    assert_eq!(left(&["x-kept", "x_kept"], &rules), [["x-kept"]; 2]);

    let mut trailers = map(&[("x_tenant_id", "red"), ("x-tenant-id", "red"), ("x-sum", "1")]);
    let rules = Rules {
        set: vec![("x-tenant-id".parse().unwrap(), HeaderValue::from_static("1"))],
        ..Rules::default()
    };
    trailers_to_upstream(&mut trailers, &rules, &SecretScanner::default());
    assert_eq!(names(&trailers), ["x-sum"]);
}

#[test]
fn what_the_gateway_says_itself_has_no_twin() {
    let twins = ["accept_encoding", "content_type", "content_encoding", "trace_parent", "traceparent"];
    assert_eq!(left(&twins, &Rules::default())[0], ["trace_parent", "traceparent"]);

    let mut headers = map(&[("ocp_apim-key", "caller's"), ("ocp-apim-key", "caller's"), ("x-b", "1")]);
    put_upstream(&mut headers, &"ocp-apim-key".parse().unwrap(), &HeaderValue::from_static("ours"));
    assert_eq!(pairs(&headers), [("ocp-apim-key".into(), "ours".into()), ("x-b".into(), "1".into())]);
}

#[test]
fn only_trailers_that_may_come_are_announced() {
    let announced = |value: &str| {
        let mut headers = map(&[("trailer", value)]);
        to_caller(&mut headers, &Rules::default(), &SecretScanner::new([&b"sk-very-secret"[..]]));
        headers.get("trailer").map(|left| left.to_str().unwrap().to_owned())
    };
    assert_eq!(announced("X-Sum,x-other").as_deref(), Some("X-Sum,x-other"));
    assert_eq!(announced("x-sum, Set-Cookie, content-length,x-other").as_deref(), Some("x-sum, x-other"));
    assert_eq!(announced("transfer-encoding"), None);
    assert_eq!(announced("x-sk-very-secret, not a name"), None);

    // A key may look like a list.
    let mut headers = map(&[("trailer", "sk-very,secret")]);
    to_caller(&mut headers, &Rules::default(), &SecretScanner::new([&b"sk-very,secret"[..]]));
    assert!(headers.is_empty());
}

#[test]
fn trailers_say_nothing_about_the_message() {
    let given = [
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "grpc-status",
        "host",
        "if-match",
        "set-cookie",
        "trailer",
        "transfer-encoding",
        "x-request-id",
        "x-sum",
    ];
    let given: Vec<_> = given.iter().map(|&name| (name, "1")).collect();
    let rules = Rules {
        set: vec![("x-set".parse().unwrap(), HeaderValue::from_static("1"))],
        allow: list(&["cookie", "set-cookie"]),
        ..Rules::default()
    };
    let mut down = map(&given);
    trailers_to_caller(&mut down, &rules, &SecretScanner::default());
    assert_eq!(names(&down), ["grpc-status", "x-sum"]);
    let mut up = map(&given);
    trailers_to_upstream(&mut up, &rules, &SecretScanner::default());
    assert_eq!(names(&up), ["grpc-status", "x-request-id", "x-sum"]);
}

#[test]
fn more_names_than_there_is_room_for_are_all_taken_out() {
    let given: Vec<_> = (0..60).map(|n| format!("x-forwarded-{n}")).chain(["x-kept".to_owned()]).collect();
    let [up, _] = left(&given.iter().map(String::as_str).collect::<Vec<_>>(), &Rules::default());
    assert_eq!(up, ["x-kept"]);
}

/// Both directions, heads and trailers.
fn everywhere(headers: &HeaderMap, rules: &Rules, keys: &SecretScanner<'_>) -> [HeaderMap; 4] {
    let mut all = [(); 4].map(|()| headers.clone());
    let [up, down, up_tail, down_tail] = &mut all;
    to_upstream(up, rules, keys);
    to_caller(down, rules, keys);
    trailers_to_upstream(up_tail, rules, keys);
    trailers_to_caller(down_tail, rules, keys);
    all
}

/// Names that nobody knows, and some that everybody does.
fn end_to_end() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]z[a-z0-9!#$&'*+.^_`|~-]{0,12}",
        Just("accept".to_owned()),
        Just("user-agent".to_owned()),
        Just("openai-beta".to_owned()),
        Just("x-ratelimit-reset-tokens".to_owned()),
    ]
}

fn ordinary() -> impl Strategy<Value = Pairs> {
    prop::collection::vec((end_to_end(), "[!-~]([ -~]{0,60}[!-~])?"), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_key_in_a_value_never_crosses(
        mut given in ordinary(), at in any::<prop::sample::Index>(), name in end_to_end(), key in "[!-~]{8,60}",
        form in form(), around in ("[ -~]{0,8}", "[ -~]{0,8}"), allowed in any::<bool>()
    ) {
        let text = form.write(&key, &around.0, &around.1);
        given.insert(at.index(given.len() + 1), (name.clone(), text.clone()));
        let given: Vec<_> = given.iter().map(|(name, value)| (&**name, &**value)).collect();
        let rules = if allowed { Rules { allow: list(&[&name]), ..Rules::default() } } else { Rules::default() };
        for left in everywhere(&map(&given), &rules, &SecretScanner::new([key.as_bytes()])) {
            prop_assert!(!left.contains_key(&*name), "{:?}", left);
            prop_assert!(pairs(&left).iter().all(|(_, value)| !value.contains(&text)), "{:?}", left);
        }
    }

    #[test]
    fn a_key_in_a_name_never_crosses(
        given in ordinary(), key in "[a-zA-Z0-9_.~-]{8,60}", form in form(), before in "[a-z-]{0,8}"
    ) {
        let name = format!("{before}{}", form.write(&key, "", "")).to_ascii_lowercase();
        // Base64 with a slash or padding cannot be a name.
        prop_assume!(HeaderName::try_from(&*name).is_ok());
        let mut given: Vec<_> = given.iter().map(|(name, value)| (&**name, &**value)).collect();
        given.push((&*name, "1"));
        for left in everywhere(&map(&given), &Rules::default(), &SecretScanner::new([key.as_bytes()])) {
            prop_assert!(!left.contains_key(&*name), "{:?}", left);
        }
    }

    #[test]
    fn ordinary_headers_stay_as_they_are(given in ordinary(), key in "sk-[A-Za-z0-9]{20,40}") {
        let given: Vec<_> = given.iter().map(|(name, value)| (&**name, &**value)).collect();
        let headers = map(&given);
        for left in everywhere(&headers, &Rules::default(), &SecretScanner::new([key.as_bytes()])) {
            prop_assert_eq!(pairs(&left), pairs(&headers));
        }
    }
}
