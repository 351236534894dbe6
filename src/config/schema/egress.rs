//! `proxy` of an upstream: egress through an HTTP CONNECT proxy.

use http::Uri;

use super::{Source, Target};
use crate::config::{
    declare::{Keys, Secrecy, Shape, described, keys},
    problem::complaint,
    reader::Node,
    secret::Secret,
    source::{Env, secret},
    url,
};

/// An HTTP CONNECT proxy on the way to an upstream.
#[derive(Debug, Clone)]
pub struct EgressProxy {
    /// `http://host:port`, user info taken out.
    pub url: Uri,
    /// For `proxy-authorization: Basic`, as `user:password`.
    pub credentials: Option<Secret>,
    /// Hosts reached directly (from NO_PROXY).
    pub bypass: Vec<String>,
}

keys! {
    /// `proxy = { … }`
    pub(crate) struct ProxyTable {
        url = described(Shape::Text("URL that begins with http://")).required(), "Address of the proxy.";
        credentials = described(Shape::Source(Source::keys())), "Credentials for the proxy, as `user:password`.",
            { secrecy: Secrecy::Secret };
    }
}

pub(super) fn shape() -> Shape {
    let url = Shape::Text("URL that begins with http://");
    Shape::Either(vec![Shape::Choice(vec!["off", "env"]), url, Shape::Table(ProxyTable::keys())])
}

/// `Some(None)`: no proxy.
pub(super) fn egress(
    node: &Node<'_>,
    targets: Option<&[Target]>,
    env: &Env<'_>,
) -> Option<Option<EgressProxy>> {
    if node.is_table() {
        return with_credentials(node, env).map(Some);
    }
    match node.value.as_str() {
        Some("off") => Some(None),
        Some("env") => from_environment(node, targets?, env),
        Some(text) => {
            let (url, credentials) = node.accept(url::proxy(text))?;
            if credentials.is_some() {
                let help = r#"write { url = "http://…", credentials = { env = "…" } } instead"#;
                node.warn(complaint("contains a password in clear", help));
            }
            Some(Some(EgressProxy { url, credentials, bypass: Vec::new() }))
        }
        None => node.mistyped(r#""off", "env", a URL or a table"#, r#"for example "http://proxy:3128""#),
    }
}

fn with_credentials(node: &Node<'_>, env: &Env<'_>) -> Option<EgressProxy> {
    let table = node.table(ProxyTable::NAMES)?;
    let credentials = match table.get("credentials") {
        None => Some(None),
        Some(node) => secret(&node, env).map(Some),
    };
    let place = table.required("url", r#"for example: url = "http://proxy:3128""#)?;
    let (url, user_info) = place.parse(url::proxy)?;
    if user_info.is_some() {
        place.fail(complaint(
            "contains user info although `credentials` is a key of its own",
            "move it to `credentials`",
        ));
    }
    Some(EgressProxy { url, credentials: credentials?, bypass: Vec::new() })
}

/// As in curl: `https_proxy` or `HTTPS_PROXY` for https targets, `http_proxy` or `HTTP_PROXY` for http targets, `no_proxy` or
/// `NO_PROXY` for hosts that are reached directly (curl(1), "ENVIRONMENT").
fn from_environment(node: &Node<'_>, targets: &[Target], env: &Env<'_>) -> Option<Option<EgressProxy>> {
    let plain = targets.iter().filter(|target| target.url.scheme_str() == Some("http")).count();
    if plain != 0 && plain != targets.len() {
        let help = "write the URL of the proxy, or split the targets into two upstreams";
        node.fail(complaint(
            r#""env" is ambiguous: the upstream has http and https targets, which use different variables"#,
            help,
        ));
        return None;
    }
    let (lower, upper) =
        if plain == 0 { ("https_proxy", "HTTPS_PROXY") } else { ("http_proxy", "HTTP_PROXY") };
    let Some(text) = env.text(lower).or_else(|| env.text(upper)) else { return Some(None) };
    let text = if text.contains("://") { text } else { format!("http://{text}") };
    let (url, credentials) = node.accept(
        url::proxy(text.trim_end_matches('/'))
            .map_err(|found| complaint(format!("${upper} {}", found.message), found.help)),
    )?;
    Some(Some(EgressProxy { url, credentials, bypass: bypass(env) }))
}

fn bypass(env: &Env<'_>) -> Vec<String> {
    let list = env.text("no_proxy").or_else(|| env.text("NO_PROXY")).unwrap_or_default();
    let hosts = list.split([',', ' ']).map(str::trim).filter(|host| !host.is_empty());
    hosts.map(str::to_ascii_lowercase).collect()
}
