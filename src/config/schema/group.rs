//! `[group.NAME]`

use std::sync::Arc;

use super::client::{ALL, ON_REVOKE, OnRevoke, PRIORITIES, limits, model_pattern};
use crate::{
    config::declare::{Kind as _, choice, list, reference, table, text},
    priority::Priority,
};

table! {
    /// `[group.NAME]`: what several clients have in common.
    #[derive(Debug, Clone, Default)]
    pub struct Group(table, context) {
        routes: Option<Vec<Arc<str>>> = list(reference("route", |names| &names.routes)).non_empty(ALL).optional(),
            "Routes that the clients of the group may use. A client's own `routes` must allow a route as well.",
            { default: "all", example: &[r#"["openai"]"#], since: "0.2.0" };
        models: Option<Vec<String>> = list(text("model name, with a trailing * for any rest", model_pattern)).non_empty(ALL).optional(),
            "Models that the clients of the group may use. A trailing `*` matches any rest of a name. A client's own `models` must allow \
             a model as well.",
            { default: "all", example: &[r#"["gpt-4o*", "text-embedding-*"]"#], since: "0.2.0" };
        limits: Vec<Arc<str>> = limits(),
            "Limits of all clients of the group, in addition to those of `[defaults]`, the client, the route and the model.",
            { default: "none", example: &[r#"["fair-use"]"#], since: "0.2.0" };
        priority: Option<Priority> = choice(PRIORITIES).optional(),
            "Priority of the requests of the group's clients, where they wait in a queue and in overload. A client's own `priority` wins.",
            { default: "`\"normal\"`", example: &["\"low\""], since: "0.2.0" };
        on_revoke: Option<OnRevoke> = choice(ON_REVOKE).optional(),
            "What happens to open requests of the group's clients when what they were granted is withdrawn. A client's own `on_revoke` wins.",
            { default: "`\"finish\"`", example: &["\"cut\""], since: "0.2.0" };
    }
}
