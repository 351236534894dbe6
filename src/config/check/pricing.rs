//! `[pricing]`: limits on cost need it, and it should have a price for each model of the file.

use std::collections::BTreeSet;

use super::{Entry, placed};
use crate::config::{
    declare::Context,
    naming::shown,
    problem::complaint,
    reader::{Node, Table},
    schema::{Choice, Limit, Model, Pricing, Route, UnknownPrice},
};

/// The `[pricing]` table. Without one, a limit on cost would count nothing.
pub(super) fn read(root: &Table<'_>, context: &Context<'_>, limits: &[Entry<'_, Limit>]) -> Option<Pricing> {
    if let Some(node) = root.get("pricing") {
        return placed::<Pricing>(node, context).map(|(_, pricing)| pricing);
    }
    let on_cost = limits.iter().filter(|(_, _, limit)| limit.cost.is_some());
    for node in on_cost.filter_map(|(_, node, _)| node.child("cost")) {
        node.fail(complaint(
            "needs the prices of models",
            r#"add a [pricing] table, and in it tables such as [pricing.model."gpt-4o*"]"#,
        ));
    }
    None
}

/// Reports each model of the file that has no price, once.
pub(super) fn are_complete(pricing: &Pricing, models: &[Entry<'_, Model>], routes: &[Entry<'_, Route>]) {
    let mut report = Report { pricing, reported: BTreeSet::new() };
    for (name, node, model) in models {
        // Where the upstream's own name has no price, that of the table counts.
        if pricing.covers(name) {
            continue;
        }
        let own: Vec<&str> = model.upstreams.iter().filter_map(|choice| choice.model.as_deref()).collect();
        if own.len() < model.upstreams.len() || !own.iter().all(|own| pricing.covers(own)) {
            report.lacks(name, node);
        }
    }
    for (_, node, route) in routes {
        let places = node.child("upstreams").and_then(|node| node.items()).unwrap_or_default();
        for (place, Choice { model, .. }) in places.iter().zip(&route.upstreams) {
            let Some(model) = model.as_deref().filter(|model| !pricing.covers(model)) else { continue };
            report.lacks(model, &place.child("model").unwrap_or_else(|| place.clone()));
        }
    }
}

/// What was reported.
struct Report<'p> {
    pricing: &'p Pricing,
    reported: BTreeSet<String>,
}

impl Report<'_> {
    fn lacks(&mut self, model: &str, node: &Node<'_>) {
        if !self.reported.insert(model.to_owned()) {
            return;
        }
        let effect = match self.pricing.unknown {
            UnknownPrice::Warn => "its requests have no cost, and limits on cost count them as nothing",
            UnknownPrice::Refuse => "its requests are refused where a limit on cost applies",
        };
        let message = format!("{} has no price: {effect}", shown(model, "this model"));
        node.warn(complaint(
            message,
            format!("add [pricing.model.{:?}]", shown(model, "NAME").replace('`', "")),
        ));
    }
}
