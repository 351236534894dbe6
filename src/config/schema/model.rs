//! `[model.NAME]`

use std::sync::Arc;

use super::client::limits;
use super::route::{Choice, ChoiceTable, model, upstreams};
use crate::config::{
    declare::{Kind, Shape, described, list, table, text},
    problem::{Complaint, complaint},
    reader::Node,
};

table! {
    /// `[model.NAME]`: the upstreams of one model, or of all models whose names begin alike.
    #[derive(Debug, Clone)]
    pub struct Model(table, context) {
        upstreams = described(Shape::List(Box::new(Shape::Either(vec![
                Shape::Text("name of an upstream"), Shape::Table(ChoiceTable::keys()),
            ])))).required(),
            "Upstreams in the order in which they are tried, as in a route. An upstream that the route does not list as well is left out, \
             unless the route has `model_upstreams = \"all\"`.",
            { shipped: r#"["openai"]"#, example: &[r#"["openai", { upstream = "openai", model = "gpt-4o-2024-11-20" }]"#], since: "0.2.0" };
        aliases: Vec<Arc<str>> = list(text("model name", alias)).or(Vec::new()),
            "Other names of the model. The upstream is asked for the name of the table, or for the `model` of its entry. The aliases of a \
             table whose name ends with `*` need a `model` in each entry.",
            { default: "none", example: &[r#"["gpt-4", "default"]"#], since: "0.2.0" };
        limits: Vec<Arc<str>> = limits(),
            "Limits of the requests for this model, in addition to those of `[defaults]`, the client, its group and the route.",
            { default: "none", example: &[r#"["fair-use"]"#], since: "0.2.0" };
    }
    derived {
        /// Upstreams in the order in which they are tried, no pair of upstream and model twice; at least one.
        upstreams: Vec<Choice> = upstreams(table, context);
    }
}

impl Model {
    /// Whether a string can be the name of a table: the name of a model, or the beginning of names and `*`.
    pub(crate) fn check_name(name: &str) -> Result<(), Complaint> {
        let stem = name.strip_suffix('*').unwrap_or(name);
        let is_sound = name == "*" || model(stem).is_ok();
        if is_sound && !stem.contains('*') {
            return Ok(());
        }
        Err(complaint(
            "is not the name of a model",
            r#"for example [model."gpt-4o"], or [model."gpt-4o*"] for all names that begin with gpt-4o"#,
        ))
    }
}

/// Where the aliases of a model's table are written.
pub(crate) fn alias_nodes<'a>(model: &Node<'a>) -> Vec<Node<'a>> {
    model.child("aliases").and_then(|node| node.items()).unwrap_or_default()
}

fn alias(text: &str) -> Result<Arc<str>, Complaint> {
    if text.contains('*') {
        return Err(complaint("is not the name of a model", "an alias is one whole name, without `*`"));
    }
    model(text)
}
