//! `[model.NAME]` tables: their names, and which routes use them.

use std::collections::BTreeMap;

use super::{Entry, placed};
use crate::config::{
    declare::{Context, Keys as _},
    naming::shown,
    problem::complaint,
    reader::{Node, Table},
    schema::{Client, Model, ModelTables, ModelUpstreams, Route, alias_nodes},
    split::is_split,
};

/// The longest list of aliases of one table.
const MOST_ALIASES: usize = 64;

/// Each `[model.NAME]` table. The name is that of a model, so it may have characters that other names may not.
pub(super) fn read<'a>(root: &Table<'a>, context: &Context<'_>) -> Vec<Entry<'a, Model>> {
    let entries = root.get("model").and_then(|node| node.entries()).unwrap_or_default();
    let read = |(name, node): (&'a str, Node<'a>)| {
        if is_split("model", name, &node, Model::NAMES) {
            return None;
        }
        node.accept(Model::check_name(name));
        let (node, model) = placed::<Model>(node, context)?;
        Some((name, node, model))
    };
    entries.into_iter().filter_map(read).collect()
}

/// No name stands for two tables, and an alias stands for a model that can be asked for.
pub(super) fn names(models: &[Entry<'_, Model>]) {
    let mut places: BTreeMap<String, String> =
        models.iter().map(|(name, node, _)| ((*name).to_owned(), node.path.clone())).collect();
    for (name, node, model) in models {
        let mut own: Vec<Node<'_>> = Vec::new();
        for place in alias_nodes(node) {
            let Some(alias) = place.value.as_str() else { continue };
            if own.iter().any(|other| other.is_str(alias)) {
                continue; // The list says so itself.
            }
            if let Some(other) = places.get(alias) {
                let message = format!("{} is the name of {other} already", shown(alias, "this name"));
                place.fail(complaint(
                    message,
                    "each name may stand for one table only: remove one of the two",
                ));
            }
            own.push(place);
        }
        let aliases =
            own.iter().filter_map(|place| Some((place.value.as_str()?.to_owned(), place.path.clone())));
        aliases.for_each(|(alias, place)| _ = places.entry(alias).or_insert(place));
        aliases_are_usable(name, node, model);
    }
}

fn aliases_are_usable(name: &str, node: &Node<'_>, model: &Model) {
    let Some(aliases) = node.child("aliases").filter(|_| !model.aliases.is_empty()) else { return };
    if model.aliases.len() > MOST_ALIASES {
        let help = "use another table, or one whose name ends with `*`";
        aliases.fail(complaint(format!("has more than {MOST_ALIASES} names"), help));
    }
    let names_no_model = model.upstreams.iter().any(|choice| choice.model.is_none());
    if name.ends_with('*') && names_no_model {
        aliases.fail(complaint(
            "stand for no model: the name of the table ends with `*`",
            "give each entry of `upstreams` a `model`, or move the aliases to the table of one model",
        ));
    }
}

/// The `models` of a client are compared with the names of tables, so an alias in them allows nothing.
pub(super) fn clients_name_tables(models: &[Entry<'_, Model>], clients: &[Entry<'_, Client>]) {
    for node in clients.iter().filter_map(|(_, node, _)| node.child("models")) {
        for place in node.items().unwrap_or_default() {
            let Some(written) = place.value.as_str() else { continue };
            let of_it = |(name, _, model): &&Entry<'_, Model>| {
                model.aliases.iter().any(|alias| **alias == *written) && *name != written
            };
            let Some((_, table, _)) = models.iter().find(of_it) else { continue };
            let alias = shown(written, "this name");
            let message = format!("{alias} is an alias of [{}]", table.path);
            place.warn(complaint(
                message,
                "write the name of the table: a client's `models` are compared with it",
            ));
        }
    }
}

/// Each table should be used by a route.
pub(super) fn are_used(models: &[Entry<'_, Model>], routes: &[Entry<'_, Route>]) {
    for (_, node, model) in models {
        let reaches =
            |route: &Route| model.upstreams.iter().any(|choice| may_lead_to(route, &choice.upstream));
        if routes.iter().any(|(_, _, route)| reaches(route)) {
            continue;
        }
        let help = if routes.iter().all(|(_, _, route)| route.model_tables == ModelTables::Off) {
            r#"set model_tables = "prefer" or "only" in a route"#
        } else {
            r#"add its upstreams to the `upstreams` of such a route, or set model_upstreams = "all" there"#
        };
        node.warn(complaint("no route uses this table", help));
    }
}

/// Whether `route` reaches this upstream by one of the tables.
pub(super) fn use_upstream(models: &[Entry<'_, Model>], route: &Route, upstream: &str) -> bool {
    let mut choices = models.iter().flat_map(|(_, _, model)| &model.upstreams);
    may_lead_to(route, upstream) && choices.any(|choice| *choice.upstream == *upstream)
}

/// Whether a table may lead to this upstream on `route`.
fn may_lead_to(route: &Route, upstream: &str) -> bool {
    let is_listed = || route.upstreams.iter().any(|choice| *choice.upstream == *upstream);
    route.model_tables != ModelTables::Off && (route.model_upstreams == ModelUpstreams::All || is_listed())
}
