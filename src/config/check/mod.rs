//! From the file's tables to a [`Config`]: each table by its declaration, then what must hold between tables.

mod between;
mod cors;
mod models;
mod pricing;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{
    declare::{Context, Declared, Keys as _, Names},
    problem::complaint,
    reader::{Node, Table},
    schema::{
        Admin, Client, ClientDirectory, Config, Defaults, ErrorTable, Group, Limit, Listener, Log, Otlp,
        Redis, Route, Server, Upstream, error_rule, errors_differ,
    },
    source::Env,
    split::is_split,
};
use crate::fault::ErrorRule;

/// Reads every table. The result is complete only if the report is without problems.
pub(crate) fn config(root: &Table<'_>, env: &Env<'_>, redacted: serde_json::Value) -> Config {
    let names = names(root);
    let mut context = Context { env, names: &names, defaults: Defaults::default(), retries: BTreeMap::new() };
    let defaults = Defaults::read(&root.section("defaults", Defaults::NAMES), &context);
    context.defaults = defaults.unwrap_or_default();
    let listeners = listeners(root, &context);
    let admin = root.get("admin").and_then(|node| placed::<Admin>(node, &context));
    between::addresses(&listeners, admin.as_ref());
    let upstreams = tables::<Upstream>(root, "upstream", &context);
    context.retries =
        upstreams.iter().map(|(name, _, upstream)| (Arc::from(*name), upstream.retry)).collect();
    let models = models::read(root, &context);
    models::names(&models);
    let routes = tables::<Route>(root, "route", &context);
    let groups = tables::<Group>(root, "group", &context);
    let limits = tables::<Limit>(root, "limit", &context);
    let clients = tables::<Client>(root, "client", &context);
    let pricing = pricing::read(root, &context, &limits);
    if let Some(pricing) = &pricing {
        pricing::are_complete(pricing, &models, &routes);
    }
    let inherited = root.get("defaults").and_then(|defaults| defaults.child("cors"));
    cors::works(inherited.as_ref(), &routes, &listeners);
    between::routes(&routes, &upstreams, &models, root.get("client").is_some() || names.has_client_files);
    models::are_used(&models, &routes);
    between::clients(&clients);
    models::clients_name_tables(&models, &clients);
    let server = section::<Server>(root, "server", &context);
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
        log: section::<Log>(root, "log", &context),
        otlp: root
            .get("otlp")
            .and_then(|node| placed::<Otlp>(node, &context))
            .map(|(_, otlp)| Box::new(otlp)),
        errors: errors(root, &context),
        languages: context.defaults.languages,
        cors: context.defaults.cors.clone(),
        upstreams: by_name(upstreams),
        models: by_name(models),
        routes: by_name(routes),
        groups: by_name(groups),
        limits: by_name(limits),
        redis: root.get("redis").and_then(|node| placed::<Redis>(node, &context)).map(|(_, redis)| redis),
        pricing,
        default_limits: context.defaults.limits.clone(),
        client_lines: lines(&clients),
        client_files: client_directory(root, &context),
        clients: by_name(clients),
        warnings: Vec::new(),
        redacted,
    }
}

/// A table that was read, beside its place in the file.
type Placed<'a, T> = (Node<'a>, T);
/// One that has a name.
type Entry<'a, T> = (&'a str, Node<'a>, T);

fn names<'a>(root: &Table<'a>) -> Names<'a> {
    let names = |key| {
        let tables = root.get(key).filter(Node::is_table).and_then(|node| node.entries());
        tables.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
    };
    Names {
        upstreams: names("upstream"),
        routes: names("route"),
        clients: names("client"),
        groups: names("group"),
        limits: names("limit"),
        has_client_files: root.get("client_files").is_some_and(|files| files.child("directory").is_some()),
    }
}

fn listeners<'a>(root: &Table<'a>, context: &Context<'_>) -> Vec<Placed<'a, Listener>> {
    let help = r#"add a table [[listener]] with address = "127.0.0.1:8080""#;
    let Some(list) = root.required("listener", help) else { return Vec::new() };
    if list.is_table() {
        list.fail(complaint(
            "is written as a single table, but there may be several",
            "write [[listener]], with two brackets",
        ));
        return Vec::new();
    }
    let items = list.some_items(help).unwrap_or_default();
    items.into_iter().filter_map(|node| placed(node, context)).collect()
}

/// The directory of the clients' files.
fn client_directory(root: &Table<'_>, context: &Context<'_>) -> Option<PathBuf> {
    let (_, table) = placed::<ClientDirectory>(root.get("client_files")?, context)?;
    table.directory
}

/// The lines of tables, by their names.
fn lines<T>(entries: &[Entry<'_, T>]) -> BTreeMap<Arc<str>, usize> {
    entries.iter().map(|(name, node, _)| (Arc::from(*name), node.line())).collect()
}

/// The `[[error]]` tables.
fn errors(root: &Table<'_>, context: &Context<'_>) -> Vec<ErrorRule> {
    let Some(list) = root.get("error") else { return Vec::new() };
    if list.is_table() {
        let help = "write [[error]], with two brackets";
        list.fail(complaint("is written as a single table, but there may be several", help));
        return Vec::new();
    }
    let items = list.items().unwrap_or_default().into_iter();
    let rules: Vec<_> = items
        .filter_map(|node| placed::<ErrorTable>(node, context))
        .map(|(node, table)| (node, error_rule(table)))
        .collect();
    errors_differ(&rules);
    rules.into_iter().map(|(_, rule)| rule).collect()
}

fn placed<'a, T: Declared>(node: Node<'a>, context: &Context<'_>) -> Option<Placed<'a, T>> {
    let read = T::read(&node.table(T::NAMES)?, context)?;
    Some((node, read))
}

/// A table whose keys all have defaults.
fn section<T: Declared + Default>(root: &Table<'_>, key: &'static str, context: &Context<'_>) -> T {
    T::read(&root.section(key, T::NAMES), context).unwrap_or_default()
}

/// Each `[key.NAME]` table.
fn tables<'a, T: Declared>(root: &Table<'a>, key: &'static str, context: &Context<'_>) -> Vec<Entry<'a, T>> {
    let entries = root.get(key).and_then(|node| node.named()).unwrap_or_default();
    let entries = entries.into_iter().filter(|(name, node)| !is_split(key, name, node, T::NAMES));
    let read = |(name, node)| placed(node, context).map(|(node, read)| (name, node, read));
    entries.filter_map(read).collect()
}

fn one_at_least(root: &Table<'_>, key: &'static str, help: &'static str) {
    if let Some(node) = root.required(key, help)
        && node.is_table()
        && node.entries().is_some_and(|entries| entries.is_empty())
    {
        node.fail(complaint("is empty", help));
    }
}

fn by_name<T>(entries: Vec<Entry<'_, T>>) -> BTreeMap<Arc<str>, T> {
    entries.into_iter().map(|(name, _, read)| (Arc::from(name), read)).collect()
}
