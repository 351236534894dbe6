//! `[route.NAME]`

use std::{net::Ipv6Addr, sync::Arc};

use http::Method;

use super::{
    Entry, Names,
    inherited::{Defaults, SPANS, body_limit, breaker, heartbeat, retry, timeout},
    reference,
};
use crate::config::{
    headers, keys,
    problem::{Complaint, complaint},
    reader::{Node, Table},
    schema::{Choice, Commit, Delivery, OnDisconnect, Route, Upstream},
    url,
};

pub(super) fn route(
    node: &Node<'_>,
    inherited: &Defaults,
    names: &Names<'_>,
    known: &[Entry<'_, Upstream>],
) -> Option<Route> {
    let table = node.table(keys::ROUTE)?;
    let path = table.required("path", r#"as in path = "/v1""#);
    let path = path.and_then(|node| prefix(&node));
    let hosts = distinct(table.get("hosts"), host, "leave it out to match any host");
    let methods = distinct(table.get("methods"), method, "leave it out to match any method");
    let upstreams = upstreams(&table, names);
    let rewrite = table.get("rewrite").map_or(Some(None), |node| prefix(&node).map(Some));
    let access =
        table.get("access").map_or(Some(false), |node| node.choice(&[("keys", false), ("open", true)]));
    let flag = |key| table.get(key).map_or(Some(false), |node| node.boolean());
    let (forward_address, attempt_headers) = (flag("forward_address"), flag("attempt_headers"));
    let next_on_context_length = flag("next_on_context_length");
    if let Some(node) = table.get("next_on_context_length")
        && next_on_context_length == Some(true)
        && upstreams.as_ref().is_some_and(|choices| choices.len() == 1)
    {
        node.warn(complaint("has no effect: the route has one upstream", ""));
    }
    let commits = [("headers", Commit::Headers), ("first_token", Commit::FirstToken)];
    let commit = table.get("commit").map_or(Some(None), |node| node.choice(&commits).map(Some));
    let commit_after = table.get("commit_after").map_or(Some(None), |node| node.span_or_off(SPANS));
    let deliveries = [("stream", Delivery::Stream), ("whole", Delivery::Whole)];
    let delivery = table.get("delivery").map_or(Some(Delivery::Stream), |node| node.choice(&deliveries));
    let leavings = [("cancel", OnDisconnect::Cancel), ("drain", OnDisconnect::Drain)];
    let on_disconnect =
        table.get("on_disconnect").map_or(Some(OnDisconnect::Cancel), |node| node.choice(&leavings));
    if let Some(node) = table.get("commit")
        && delivery == Some(Delivery::Whole)
    {
        node.warn(complaint("has no effect: `delivery` is \"whole\"", ""));
    }
    let body_limit = body_limit(&table).unwrap_or(inherited.body_limit);
    let first = upstreams.as_ref().and_then(|choices| choices.first());
    let first = first.and_then(|first| known.iter().find(|(name, ..)| **name == *first.upstream));
    let (timeout, retry) = (timeout(&table), retry(&table, first.map(|(_, _, upstream)| upstream.retry)));
    let (breaker, heartbeat) = (breaker(&table), heartbeat(&table));
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
        retry,
        breaker,
        heartbeat,
        commit: commit?,
        commit_after: commit_after?,
        delivery: delivery?,
        on_disconnect: on_disconnect?,
        next_on_context_length: next_on_context_length?,
        attempt_headers: attempt_headers?,
        request_headers,
        response_headers,
        forward_address: forward_address?,
    })
}

fn prefix(node: &Node<'_>) -> Option<String> {
    let text = node.string()?;
    node.accept(url::canonical(text)).map(|()| text.to_owned())
}

fn upstreams(table: &Table<'_>, names: &Names<'_>) -> Option<Vec<Choice>> {
    let help = r#"as in upstreams = ["openai"]"#;
    let mut choices: Vec<Choice> = Vec::new();
    for item in table.required("upstreams", help)?.some_items(help).unwrap_or_default() {
        let Some((choice, known)) = choice(&item, names) else { continue };
        if known && choices.contains(&choice) {
            item.fail(complaint("is in this list twice", "name it again only with another `model`"));
        }
        choices.push(choice);
    }
    Some(choices)
}

/// One of `upstreams`, and whether it is defined.
fn choice(node: &Node<'_>, names: &Names<'_>) -> Option<(Choice, bool)> {
    let help = r#"as in "openai", or { upstream = "openai", model = "gpt-4o-mini" }"#;
    let (name, model) = if node.is_table() {
        let table = node.table(keys::CHOICE)?;
        let model = table.get("model").map_or(Some(None), |node| node.parse(model).map(Some));
        (table.required("upstream", help)?, model)
    } else if node.value.is_str() {
        (node.clone(), Some(None))
    } else {
        return node.mistyped("an upstream's name, or a table", help);
    };
    let (upstream, known) = reference(&name, "upstream", &names.upstreams)?;
    Some((Choice { upstream, model: model? }, known))
}

/// A model's name as it can stand in a request without being escaped.
fn model(text: &str) -> Result<Arc<str>, Complaint> {
    // What is printed as it is: no quote, no backslash, no control or format character.
    let plain = |c: char| c.escape_debug().len() == 1;
    if text.is_empty() || text.chars().count() > 256 || !text.chars().all(plain) {
        return Err(complaint(
            "is not the name of a model",
            r#"as in "gpt-4o-mini": 1 to 256 printable characters, no quotes or backslashes"#,
        ));
    }
    Ok(Arc::from(text))
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
