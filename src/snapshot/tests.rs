use std::path::Path;

use http::Method;
use rcgen::{BasicConstraints, CertificateParams, GeneralSubtree, IsCa, KeyPair, NameConstraints};

use super::*;
use crate::{
    config::{Env, parse},
    priority::Priority,
};

/// Compiles a configuration of one upstream and one route, with the additional keys `upstream` and `route`.
fn compiled(upstream: &str, route: &str, previous: Option<&Snapshot>) -> Snapshot {
    compiled_in(Path::new("."), upstream, route, previous)
}

fn compiled_in(folder: &Path, upstream: &str, route: &str, previous: Option<&Snapshot>) -> Snapshot {
    let text = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:8080"
        [upstream.one]
        url = "https://127.0.0.1:1"
        auth = "none"
        {upstream}
        [route.any]
        path = "/v1"
        upstreams = ["one"]
        access = "open"
        {route}
        [client.a]
        key = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
        "#
    );
    let none = |_: &str| None;
    let config = parse(&text, &Env::new(folder, &none)).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Snapshot::compile(config, previous).unwrap()
}

#[test]
fn a_route_that_names_methods_wins_over_one_of_its_path_that_does_not() {
    // Ordered by name, this route would come last.
    let more = "[route.create]\npath = \"/v1\"\nmethods = [\"POST\"]\nupstreams = [\"one\"]";
    let snapshot = compiled("", more, None);
    let found = |method: &Method, path: &str| snapshot.routes.find(None, method, path).unwrap();
    assert_eq!(&*found(&Method::POST, "/v1/chat/completions").name, "create");
    assert!(!found(&Method::POST, "/v1").open);
    assert_eq!(&*found(&Method::GET, "/v1/models").name, "any");
}

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

#[test]
fn a_header_that_is_called_like_a_secret_is_kept_like_one() {
    for name in ["ocp-apim-subscription-key", "x-functions-key", "x-signature", "x-jwt", "x-session"] {
        let header = format!("{{ {name} = \"{SECRET}\" }}");
        for snapshot in [
            compiled(&format!("headers = {header}"), "", None),
            compiled("", &format!("request_headers = {{ set = {header} }}"), None),
        ] {
            let upstream = &snapshot.upstreams["one"];
            assert!(upstream.secrets.found_in(format!("said {SECRET}").as_bytes()), "{name}");
            assert!(!snapshot.redacted.to_string().contains(SECRET), "{name}");
            assert!(!format!("{snapshot:?}").contains(SECRET), "{name}");
        }
    }
}

#[test]
fn another_upstreams_key_is_found_as_well() {
    let another = format!(
        "[upstream.two]\nurl = \"https://127.0.0.1:2\"\nauth = \"none\"\nheaders = {{ x-api-token = \"{SECRET}\" }}"
    );
    let snapshot = compiled("", &another, None);
    assert!(snapshot.upstreams["one"].secrets.found_in(SECRET.as_bytes()));
    assert!(snapshot.upstream_keys.found_in(SECRET.as_bytes()));
}

#[test]
fn what_is_too_short_for_a_secret_is_not_looked_for() {
    let snapshot = compiled("headers = { x-key-version = \"1\" }", "", None);
    assert!(!snapshot.upstreams["one"].secrets.found_in(b"1"));
}

/// Otherwise a connection verified by an authority would continue after the authority is no longer trusted.
#[test]
fn other_authorities_are_another_way_to_a_target() {
    let folder = std::env::temp_dir().join(format!("sluicegate-authorities-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = KeyPair::generate().unwrap();
    let write = |constrained: bool| {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.name_constraints = constrained.then(|| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".to_owned())],
            excluded_subtrees: Vec::new(),
        });
        std::fs::write(folder.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    };
    let dialer = |snapshot: &Snapshot| snapshot.upstreams["one"].target(0).dialer.clone();
    let after = |previous: &Snapshot| compiled_in(&folder, "tls = { ca = \"ca.pem\" }", "", Some(previous));
    write(false);
    let systems = compiled("", "", None);
    let own = after(&systems);
    assert!(!Arc::ptr_eq(&dialer(&systems), &dialer(&own)));
    let same = after(&own);
    assert!(Arc::ptr_eq(&dialer(&own), &dialer(&same)));
    write(true);
    assert!(!Arc::ptr_eq(&dialer(&same), &dialer(&after(&same))));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_client_that_has_not_changed_is_taken_over() {
    let client = |name: &str, digit: &str, more: &str| {
        format!("[client.{name}]\nkey = \"sha256:{}\"\n{more}\n", digit.repeat(64))
    };
    let before = compiled("", &[client("kept", "a", ""), client("changed", "b", "")].concat(), None);
    let limited = client("changed", "b", "models = [\"gpt-4o\"]");
    let after = compiled("", &[client("kept", "a", ""), limited].concat(), Some(&before));
    let find = |snapshot: &Snapshot, digit: u8| snapshot.callers.by_key(&[digit; 32]).cloned();
    assert!(Arc::ptr_eq(&find(&before, 0xaa).unwrap(), &find(&after, 0xaa).unwrap()));
    assert!(!Arc::ptr_eq(&find(&before, 0xbb).unwrap(), &find(&after, 0xbb).unwrap()));
}

#[test]
fn a_client_has_the_priority_and_the_on_revoke_of_its_group_unless_its_own_table_says_otherwise() {
    let client = |name: &str, digit: &str, more: &str| {
        format!("[client.{name}]\nkey = \"sha256:{}\"\n{more}\n", digit.repeat(64))
    };
    let tables = [
        "[group.batch]\npriority = \"low\"\non_revoke = \"cut\"\n".to_owned(),
        client("plain", "a", ""),
        client("member", "b", "group = \"batch\""),
        client("own", "c", "group = \"batch\"\npriority = \"high\"\non_revoke = \"finish\""),
    ];
    let snapshot = compiled("", &tables.concat(), None);
    let of = |name: &str| {
        let caller = snapshot.callers.by_name(name).unwrap();
        (caller.priority, caller.cut_when_withdrawn)
    };
    assert_eq!(of("plain"), (Priority::Normal, false));
    assert_eq!(of("member"), (Priority::Low, true));
    assert_eq!(of("own"), (Priority::High, false));
    assert!(Priority::Low < Priority::Normal && Priority::Normal < Priority::High);
}
