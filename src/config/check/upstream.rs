//! `[upstream.NAME]`

use http::Uri;
use rustls::pki_types::ServerName;

use super::{
    inherited::{Defaults, SPANS, breaker, heartbeat, retry, timeout},
    one_or_several,
    proxy::egress,
};
use crate::config::{
    certificate::{authorities, chain_and_key},
    headers, keys,
    problem::{Complaint, complaint},
    reader::{Node, Table},
    schema::{Auth, Balance, HashBy, Pool, Target, Upstream, UpstreamTls},
    secret::Secret,
    source::{Env, secret},
    url,
};

pub(super) fn upstream(node: &Node<'_>, inherited: &Defaults, env: &Env<'_>) -> Option<Upstream> {
    let table = node.table(keys::UPSTREAM)?;
    let targets = targets(&table);
    let auth = table.get("auth").map_or(Some(Auth::Bearer), |node| auth(&node));
    let keys = keys(&table, auth.as_ref(), env);
    let headers = table.get("headers").map(|node| set_headers(&node, auth.as_ref())).unwrap_or_default();
    let http2 = table.get("http2").map_or(Some(false), |node| node.boolean());
    let tls =
        table.get("tls").map_or(Some(UpstreamTls::default()), |node| tls(&node, targets.as_deref(), env));
    let proxy = table.get("proxy").map_or(Some(None), |node| egress(&node, targets.as_deref(), env));
    let balance = table.get("balance").map_or(Some(Balance::default()), |node| balance(&node));
    let most = |key| table.get(key).and_then(|node| node.count(1..=1_000_000));
    let most = |key| most(key).and_then(|count| usize::try_from(count).ok());
    let (max_pending, max_connections) = (most("max_pending"), most("max_connections"));
    let (pool, timeout) = (pool(&table), timeout(&table).over(inherited.timeout));
    let retry = retry(&table, Some(inherited.retry)).over(inherited.retry);
    let breaker = breaker(&table).over(inherited.breaker);
    let heartbeat = heartbeat(&table).unwrap_or(inherited.heartbeat);
    Some(Upstream {
        targets: targets?,
        keys: keys?,
        auth: auth?,
        headers,
        http2: http2?,
        tls: tls?,
        proxy: proxy?,
        pool,
        balance: balance?,
        max_pending,
        max_connections,
        timeout,
        retry,
        breaker,
        heartbeat,
    })
}

const URL_HELP: &str = r#"as in url = "https://api.openai.com", or targets = [{ url = "…", weight = 2 }, …]"#;

fn targets(table: &Table<'_>) -> Option<Vec<Target>> {
    let nodes = one_or_several(table, "url", "targets", URL_HELP)?;
    let alone = table.get("url").is_some();
    let read: Vec<Option<Target>> =
        nodes.iter().map(|node| if alone { base(node, 1) } else { target(node) }).collect();
    let targets: Vec<Target> = read.into_iter().collect::<Option<_>>()?;
    for (index, node) in nodes.iter().enumerate() {
        let (before, from) = targets.split_at(index);
        if from.first().is_some_and(|this| before.iter().any(|other| other.url == this.url)) {
            node.fail(complaint(
                "has the URL of a target before it",
                "give that one a greater `weight` instead",
            ));
        }
    }
    Some(targets)
}

fn target(node: &Node<'_>) -> Option<Target> {
    let table = node.table(keys::TARGET)?;
    let weight = table.get("weight").map_or(Some(1), |node| node.count(1..=1000));
    let url = table.required("url", URL_HELP)?;
    base(&url, u32::try_from(weight?).ok()?)
}

fn base(node: &Node<'_>, weight: u32) -> Option<Target> {
    let url = node.parse(url::target)?;
    if url.scheme_str() == Some("http") && !is_local(&url) {
        let help = "write https://, unless the way there is one that you trust";
        node.warn(complaint("the key and all content go there without TLS", help));
    }
    Some(Target { url, weight })
}

fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn auth(node: &Node<'_>) -> Option<Auth> {
    if !node.is_table() {
        return node.choice(&[("bearer", Auth::Bearer), ("none", Auth::None)]);
    }
    let header = node.table(keys::AUTH)?.required("header", r#"as in auth = { header = "api-key" }"#)?;
    header.parse(headers::name).map(Auth::Header)
}

fn balance(node: &Node<'_>) -> Option<Balance> {
    if !node.is_table() {
        return node
            .choice(&[("least_pending", Balance::LeastPending), ("round_robin", Balance::RoundRobin)]);
    }
    let help =
        r#"as in balance = { hash = "caller" }, { hash = "prompt" } or { hash = { header = "x-session" } }"#;
    let hash = node.table(keys::BALANCE)?.required("hash", help)?;
    let by = if hash.is_table() {
        let header = hash.table(keys::HASH)?.required("header", help)?;
        header.parse(headers::name).map(HashBy::Header)
    } else {
        hash.choice(&[("caller", HashBy::Caller), ("prompt", HashBy::Prompt)])
    };
    by.map(Balance::Hash)
}

fn keys(table: &Table<'_>, auth: Option<&Auth>, env: &Env<'_>) -> Option<Vec<Secret>> {
    let written = table.get("key").or_else(|| table.get("keys"));
    if auth == Some(&Auth::None) {
        if let Some(written) = written {
            written.fail(complaint(r#"has no use: `auth` is "none""#, "leave one of the two out"));
        }
        return Some(Vec::new());
    }
    let help = r#"as in key = { env = "OPENAI_API_KEY" }; or auth = "none" if it wants no key"#;
    let nodes = one_or_several(table, "key", "keys", help)?;
    let read: Vec<Option<Secret>> = nodes.iter().map(|node| secret(node, env)).collect();
    read.into_iter().collect()
}

fn set_headers(node: &Node<'_>, auth: Option<&Auth>) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let pairs = headers::pairs(node);
    if let Some(Auth::Header(name)) = auth
        && pairs.iter().any(|(other, _)| other == name)
    {
        node.fail(complaint("sets the header that carries the key", "the key comes from `key`"));
    }
    pairs
}

fn tls(node: &Node<'_>, targets: Option<&[Target]>, env: &Env<'_>) -> Option<UpstreamTls> {
    let table = node.table(keys::UPSTREAM_TLS)?;
    let plain = |target: &Target| target.url.scheme_str() == Some("http");
    if targets.is_some_and(|targets| targets.iter().all(plain)) {
        node.warn(complaint("has no effect: every URL is http://", ""));
    }
    let ca = table.get("ca").map(|node| authorities(&node, env));
    let certificate = match (table.get("certificate"), table.get("key")) {
        (None, None) => None,
        (chain, key) => {
            let help = "a client certificate is `certificate` and `key` together";
            let (chain, key) = (
                chain.or_else(|| table.required("certificate", help)),
                key.or_else(|| table.required("key", help)),
            );
            Some(chain.and_then(|chain| chain_and_key(&chain, key.as_ref(), env)))
        }
    };
    let server_name = table.get("server_name").map(|node| node.parse(server_name));
    Some(UpstreamTls {
        ca: written(ca)?.map(|(store, _)| store),
        certificate: written(certificate)?.map(|certificate| certificate.key),
        server_name: written(server_name)?,
    })
}

/// Nothing written is sound; something written must have been read.
fn written<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, Complaint> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| complaint("is not a DNS name or an IP address", r#"as in "api.example.com""#))
}

fn pool(table: &Table<'_>) -> Pool {
    let table = table.section("pool", keys::POOL);
    let default = Pool::default();
    let max_idle = table.get("max_idle").and_then(|node| node.count(0..=65_536));
    Pool {
        idle: table.get("idle").and_then(|node| node.span(SPANS)).unwrap_or(default.idle),
        max_idle: max_idle.and_then(|count| usize::try_from(count).ok()).unwrap_or(default.max_idle),
    }
}
