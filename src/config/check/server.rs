//! `[server]`, `[log]` and `[admin]`.

use std::{net::SocketAddr, time::Duration};

use super::{Placed, inherited::SPANS};
use crate::config::{
    keys,
    problem::{Complaint, complaint},
    reader::Table,
    schema::{Admin, Drain, Log, LogFormat, Server},
    source::{Env, secret},
};

pub(super) fn server(root: &Table<'_>) -> Server {
    let table = root.section("server", keys::SERVER);
    let default = Server::default();
    let span = |key, default| table.get(key).and_then(|node| node.span(SPANS)).unwrap_or(default);
    let count = |key, range, default| {
        let count = table.get(key).and_then(|node| node.count(range));
        count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    };
    let short = |key, range, default| {
        let count = table.get(key).and_then(|node| node.count(range));
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
    };
    let size = |key, range, default| table.get(key).and_then(|node| node.size(range)).unwrap_or(default);
    let header_size = size("max_header_size", 8 << 10..=1 << 20, default.max_header_size as u64);
    Server {
        threads: count("threads", 1..=256, default.threads),
        max_connections: count("max_connections", 1..=1 << 20, default.max_connections),
        backlog: short("backlog", 1..=65_535, default.backlog),
        handshake_timeout: span("handshake_timeout", default.handshake_timeout),
        header_timeout: span("header_timeout", default.header_timeout),
        keep_alive: span("keep_alive", default.keep_alive),
        body_idle: span("body_idle", default.body_idle),
        write_stall: span("write_stall", default.write_stall),
        linger: span("linger", default.linger),
        max_header_size: usize::try_from(header_size).unwrap_or(default.max_header_size),
        max_headers: count("max_headers", 1..=1000, default.max_headers),
        http2_max_streams: short("http2_max_streams", 1..=10_000, default.http2_max_streams),
        http2_ping: table
            .get("http2_ping")
            .and_then(|node| node.span_or_off(SPANS))
            .unwrap_or(default.http2_ping),
        max_buffered: size("max_buffered", 1 << 20..=1 << 40, default.max_buffered),
        drain: drain(&table),
    }
}

fn drain(server: &Table<'_>) -> Drain {
    let table = server.section("drain", keys::DRAIN);
    let default = Drain::default();
    let range = Duration::ZERO..=Duration::from_secs(86_400);
    let span = |key, default| table.get(key).and_then(|node| node.span(range.clone())).unwrap_or(default);
    Drain { announce: span("announce", default.announce), deadline: span("deadline", default.deadline) }
}

pub(super) fn log(root: &Table<'_>) -> Log {
    let table = root.section("log", keys::LOG);
    let default = Log::default();
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    Log {
        format: table.get("format").and_then(|node| node.choice(&formats)).unwrap_or(default.format),
        access: table.get("access").and_then(|node| node.boolean()).unwrap_or(default.access),
        level: table.get("level").and_then(|node| node.choice(&levels)).unwrap_or(default.level),
    }
}

pub(super) fn admin<'a>(root: &Table<'a>, env: &Env<'_>) -> Option<Placed<'a, Admin>> {
    let table = root.get("admin")?.table(keys::ADMIN)?;
    let written = table.get("token");
    let token = written.as_ref().and_then(|node| secret(node, env));
    let node = table.required("address", r#"as in address = "127.0.0.1:9901""#)?;
    let address = node.parse(address)?;
    if !address.ip().to_canonical().is_loopback() && written.is_none() {
        node.fail(complaint(
            "is not a loopback address, and there is no `token`",
            r#"add token = { env = "SLUICEGATE_ADMIN_TOKEN" }, or listen on 127.0.0.1"#,
        ));
    }
    Some((node, Admin { address, token }))
}

/// An address to listen on: a name would have to be resolved, and may mean several.
pub(super) fn address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        complaint(
            "is not an IP address with a port",
            r#"as in "127.0.0.1:8443", "0.0.0.0:8443" or "[::]:8443""#,
        )
    })
}
