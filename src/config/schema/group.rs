//! `[group.NAME]`

use std::sync::Arc;

use super::client::{ALL, limits, model_pattern};
use crate::config::declare::{Kind as _, list, reference, table, text};

table! {
    /// `[group.NAME]`: what several clients have in common.
    #[derive(Debug, Clone, Default)]
    pub struct Group(table, context) {
        routes: Option<Vec<Arc<str>>> = list(reference("route", |names| names.routes.clone())).non_empty(ALL).optional(),
            "Routes that the clients of the group may use. A client's own `routes` must allow a route as well.",
            { default: "all", example: &[r#"["openai"]"#], since: "0.2.0" };
        models: Option<Vec<String>> = list(text("model name, with a trailing * for any rest", model_pattern)).non_empty(ALL).optional(),
            "Models that the clients of the group may use. A trailing `*` matches any rest of a name. A client's own `models` must allow \
             a model as well.",
            { default: "all", example: &[r#"["gpt-4o*", "text-embedding-*"]"#], since: "0.2.0" };
        limits: Vec<Arc<str>> = limits(),
            "Limits of all clients of the group, in addition to those of `[defaults]`, the client, the route and the model.",
            { default: "none", example: &[r#"["fair-use"]"#], since: "0.2.0" };
    }
}
