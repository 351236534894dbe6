//! From the file's tables to a [`Config`]: one reader for each table, and what must hold between them.

mod between;
mod client;
mod inherited;
mod listener;
mod proxy;
mod route;
mod server;
mod upstream;

use std::{collections::BTreeMap, sync::Arc};

use super::{
    problem::complaint,
    reader::{Node, Table},
    schema::Config,
    source::Env,
};

/// Reads every table. What comes out is whole only if the report is without problems.
pub(crate) fn config(root: &Table<'_>, env: &Env<'_>, redacted: serde_json::Value) -> Config {
    let defaults = inherited::defaults(root);
    let names = Names::of(root);
    let listeners = listener::listeners(root, env);
    let admin = server::admin(root, env);
    between::addresses(&listeners, admin.as_ref());
    let upstreams = tables(root, "upstream", |node| upstream::upstream(node, &defaults, env));
    let routes = tables(root, "route", |node| route::route(node, &defaults, &names, &upstreams));
    let clients = tables(root, "client", |node| client::client(node, &names));
    between::routes(&routes, &upstreams, root.get("client").is_some());
    between::clients(&clients);
    let server = server::server(root);
    between::workers(&server, &upstreams);
    one_at_least(root, "upstream", "add a table such as [upstream.openai] with a `url` and a `key`");
    one_at_least(
        root,
        "route",
        r#"add a table such as [route.openai] with path = "/v1" and upstreams = ["openai"]"#,
    );
    Config {
        listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
        admin: admin.map(|(_, admin)| admin),
        server,
        log: server::log(root),
        upstreams: by_name(upstreams),
        routes: by_name(routes),
        clients: clients.into_iter().map(|(name, _, found)| (Arc::from(name), found.client)).collect(),
        warnings: Vec::new(),
        redacted,
    }
}

fn one_at_least(root: &Table<'_>, key: &'static str, help: &'static str) {
    if let Some(node) = root.required(key, help)
        && node.is_table()
        && node.entries().is_some_and(|entries| entries.is_empty())
    {
        node.fail(complaint("has nothing in it", help));
    }
}

/// A table that was read, beside its place in the file.
type Placed<'a, T> = (Node<'a>, T);
/// One that has a name.
type Entry<'a, T> = (&'a str, Node<'a>, T);

/// The names that may be referred to, sound or not: a mistake in an upstream is not also a mistake of its routes.
struct Names<'a> {
    upstreams: Vec<&'a str>,
    routes: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(root: &Table<'a>) -> Self {
        let names = |key| {
            let tables = root.get(key).filter(Node::is_table).and_then(|node| node.entries());
            tables.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
        };
        Self { upstreams: names("upstream"), routes: names("route") }
    }
}

/// Each `[key.NAME]` table.
fn tables<'a, T>(
    root: &Table<'a>,
    key: &'static str,
    reader: impl Fn(&Node<'a>) -> Option<T>,
) -> Vec<Entry<'a, T>> {
    let entries = root.get(key).and_then(|node| node.named()).unwrap_or_default();
    entries.into_iter().filter_map(|(name, node)| reader(&node).map(|read| (name, node, read))).collect()
}

fn by_name<T>(entries: Vec<Entry<'_, T>>) -> BTreeMap<Arc<str>, T> {
    entries.into_iter().map(|(name, _, read)| (Arc::from(name), read)).collect()
}

/// A key or several, under one name or its plural; neither is told as missing.
fn one_or_several<'a>(
    table: &Table<'a>,
    one: &'static str,
    several: &'static str,
    help: &'static str,
) -> Option<Vec<Node<'a>>> {
    let both = table.get(one).is_some() && table.get(several).is_some();
    let Some(node) = table.either(one, several) else {
        return if both { None } else { table.required(one, help).map(|node| vec![node]) };
    };
    if table.get(one).is_some() { Some(vec![node]) } else { node.some_items(help) }
}

/// References to names, each of which must be defined, and none twice.
fn references(list: &Node<'_>, kind: &'static str, defined: &[&str], help: &'static str) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for item in list.some_items(help).unwrap_or_default() {
        let Some((name, known)) = reference(&item, kind, defined) else { continue };
        if known && names.iter().any(|other| **other == *name) {
            item.fail(complaint("is named twice in this list", ""));
        }
        names.push(name);
    }
    names
}

/// A name, and whether it is defined, which it must be.
fn reference(node: &Node<'_>, kind: &'static str, defined: &[&str]) -> Option<(Arc<str>, bool)> {
    let name = node.string()?;
    let known = defined.contains(&name);
    if !known {
        node.fail(super::naming::undefined(kind, name, defined.iter().copied()));
    }
    Some((Arc::from(name), known))
}
