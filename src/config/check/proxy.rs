//! `proxy` of an upstream: the way out through an HTTP CONNECT proxy.

use crate::config::{
    keys,
    problem::complaint,
    reader::Node,
    schema::{EgressProxy, Target},
    source::{Env, secret},
    url,
};

/// `Some(None)`: directly.
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
                node.warn(complaint("holds a password in clear", help));
            }
            Some(Some(EgressProxy { url, credentials, bypass: Vec::new() }))
        }
        None => node.mistyped(r#""off", "env", a URL or a table"#, r#"as in "http://proxy:3128""#),
    }
}

fn with_credentials(node: &Node<'_>, env: &Env<'_>) -> Option<EgressProxy> {
    let table = node.table(keys::PROXY)?;
    let credentials = match table.get("credentials") {
        None => Some(None),
        Some(node) => secret(&node, env).map(Some),
    };
    let place = table.required("url", r#"as in url = "http://proxy:3128""#)?;
    let (url, user_info) = place.parse(url::proxy)?;
    if user_info.is_some() {
        place.fail(complaint("has user info of its own", "keep it in `credentials` alone"));
    }
    Some(EgressProxy { url, credentials: credentials?, bypass: Vec::new() })
}

/// As curl has it: `https_proxy` or `HTTPS_PROXY` for https targets, `http_proxy` or `HTTP_PROXY` for http ones, `no_proxy` or
/// `NO_PROXY` for hosts reached directly (curl(1), "ENVIRONMENT").
fn from_environment(node: &Node<'_>, targets: &[Target], env: &Env<'_>) -> Option<Option<EgressProxy>> {
    let plain = targets.iter().filter(|target| target.url.scheme_str() == Some("http")).count();
    if plain != 0 && plain != targets.len() {
        let help = "write the proxy's URL, or make two upstreams";
        node.fail(complaint(r#""env" may mean two proxies here: targets are both http and https"#, help));
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
