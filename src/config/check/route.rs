//! `[route.NAME]`

use std::{net::Ipv6Addr, sync::Arc};

use http::Method;

use super::{
    Names,
    inherited::{body_limit, not_yet, timeout},
    references,
};
use crate::config::{
    headers, keys,
    problem::{Complaint, complaint},
    reader::{Node, Table},
    schema::Route,
    url,
};

pub(super) fn route(node: &Node<'_>, inherited_limit: u64, names: &Names<'_>) -> Option<Route> {
    let table = node.table(keys::ROUTE)?;
    not_yet(&table);
    let path = table.required("path", r#"as in path = "/v1""#);
    let path = path.and_then(|node| prefix(&node));
    let hosts = distinct(table.get("hosts"), host, "leave it out to match any host");
    let methods = distinct(table.get("methods"), method, "leave it out to match any method");
    let upstreams = upstreams(&table, names);
    let rewrite = table.get("rewrite").map_or(Some(None), |node| prefix(&node).map(Some));
    let access =
        table.get("access").map_or(Some(false), |node| node.choice(&[("keys", false), ("open", true)]));
    let forward = table.get("forward_address").map_or(Some(false), |node| node.boolean());
    let body_limit = body_limit(&table).unwrap_or(inherited_limit);
    let timeout = timeout(&table);
    let (request_headers, response_headers) =
        (headers::rules(&table, "request_headers"), headers::rules(&table, "response_headers"));
    Some(Route {
        path: path?,
        hosts,
        methods,
        upstreams: upstreams?,
        rewrite: rewrite?,
        open: access?,
        body_limit,
        timeout,
        request_headers,
        response_headers,
        forward_address: forward?,
    })
}

fn prefix(node: &Node<'_>) -> Option<String> {
    let text = node.string()?;
    node.accept(url::canonical(text)).map(|()| text.to_owned())
}

fn upstreams(table: &Table<'_>, names: &Names<'_>) -> Option<Vec<Arc<str>>> {
    let help = r#"as in upstreams = ["openai"]"#;
    let node = table.required("upstreams", help)?;
    let upstreams = references(&node, "upstream", &names.upstreams, help);
    if upstreams.len() > 1 {
        node.warn(complaint("only the first upstream is used in this version", ""));
    }
    Some(upstreams)
}

/// A list of values, none of them twice.
fn distinct<T: PartialEq>(
    list: Option<Node<'_>>,
    parser: fn(&str) -> Result<T, Complaint>,
    help: &'static str,
) -> Vec<T> {
    let mut values: Vec<T> = Vec::new();
    for item in list.and_then(|list| list.some_items(help)).unwrap_or_default() {
        let Some(value) = item.parse(parser) else { continue };
        if values.contains(&value) {
            item.fail(complaint("is in this list twice", ""));
        }
        values.push(value);
    }
    values
}

/// A host as the `Host` header has it, without its port.
fn host(text: &str) -> Result<String, Complaint> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
        return Ok(text.to_ascii_lowercase());
    }
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner)
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(complaint("is not a host name", r#"as in "api.example.com": no scheme, port, path or wildcard"#))
}

fn method(text: &str) -> Result<Method, Complaint> {
    let help = r#"as in "POST", in capitals"#;
    if matches!(text, "CONNECT" | "TRACE") {
        return Err(complaint("is a method that is never forwarded", ""));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(complaint("is not a method", help));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| complaint("is not a method", help))
}
