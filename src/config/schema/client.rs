//! `[client.NAME]`

use std::{sync::Arc, time::SystemTime};

use super::tags::{Tag, tags};
use crate::{
    config::{
        declare::{
            Kind, List, Or, Reference, Secrecy, Shape, choice, described, list, reference, table, text,
        },
        expiry::{rfc3339, warn_of_expiry},
        problem::{Complaint, complaint},
        reader::{Node, Table},
        secret::KeyHash,
    },
    priority::Priority,
};

pub(super) const ALL: &str = "leave the key out to allow all";

table! {
    /// `[client.NAME]`: who may send requests.
    #[derive(Debug, Clone)]
    pub struct Client(table, context) {
        key = described(Shape::Text("\"sha256:\" and 64 lowercase hex digits")).required(),
            "SHA-256 of the client's key, in hex. The key itself is not stored.",
            { shipped: r#""sha256:0000000000000000000000000000000000000000000000000000000000000000""#, secrecy: Secrecy::Secret,
              default: "required, unless `keys` is set" };
        keys = described(Shape::List(Box::new(Shape::Text("\"sha256:\" and 64 lowercase hex digits")))),
            "Several keys in place of `key`, for example while one is being replaced.",
            { example: &[r#"["sha256:1111111111111111111111111111111111111111111111111111111111111111"]"#], secrecy: Secrecy::Secret };
        routes: Option<Vec<Arc<str>>> = list(reference("route", |names| &names.routes)).non_empty(ALL).optional(),
            "Routes that the client may use.",
            { default: "all", example: &[r#"["openai"]"#] };
        models: Option<Vec<String>> = list(text("model name, with a trailing * for any rest", model_pattern)).non_empty(ALL).optional(),
            "Models that the client may use. A trailing `*` matches any rest of a name.",
            { default: "all", example: &[r#"["gpt-4o*"]"#] };
        group: Option<Arc<str>> = reference("group", |names| &names.groups).optional(),
            "Group of the client. What the group may not use, the client may not use either.",
            { example: &[r#""research""#], since: "0.2.0" };
        limits: Vec<Arc<str>> = limits(),
            "Limits of the client, in addition to those of `[defaults]`, its group, the route and the model.",
            { default: "none", example: &[r#"["fair-use"]"#], since: "0.2.0" };
        priority: Option<Priority> = choice(PRIORITIES).optional(),
            "Priority of the client's requests, where they wait in a queue and in overload. Wins over the group's.",
            { default: "that of the group, else `\"normal\"`", example: &["\"high\""], since: "0.2.0" };
        expires: Option<SystemTime> = text("time with its zone, as in RFC 3339", rfc3339).optional(),
            "When the client's keys expire. From that time on they are refused with 401, without a reload. Open requests finish or are cut, \
             as `on_revoke` says.",
            { example: &[r#""2027-01-01T00:00:00Z""#], since: "0.2.0" };
        tags: Vec<Tag> = tags().or(Vec::new()),
            "Names and values that the access lines of the client's requests have as `tags`, at most 16. They are never sent upstream.",
            { default: "none", example: &[r#"{ cost-center = "4711" }"#], since: "0.2.0" };
        on_revoke: Option<OnRevoke> = choice(ON_REVOKE).optional(),
            "What happens to the client's open requests, streams and WebSocket connections when a reload withdraws what they were granted: \
             the client or the key that they came with is removed, or the client may not use their route or model any more. They finish, \
             or are cut at once. Of a client that is removed, the value counts that it had. Wins over the group's.",
            { default: "that of the group, else `\"finish\"`", example: &["\"cut\""], since: "0.2.0" };
    }
    derived {
        /// Hashes of the client's keys, from `key` or `keys`; at least one, and none twice in the file.
        keys: Vec<KeyHash> = keys(table);
    }
    check { warn_of_expiry(table, expires.flatten()) }
}

/// The words for [`Priority`].
pub(super) const PRIORITIES: &[(&str, Priority)] =
    &[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];

/// The words for [`OnRevoke`].
pub(super) const ON_REVOKE: &[(&str, OnRevoke)] = &[("finish", OnRevoke::Finish), ("cut", OnRevoke::Cut)];

/// `limits`: names of limits, none by default.
pub(super) fn limits() -> Or<List<Reference>> {
    list(reference("limit", |names| &names.limits)).or(Vec::new())
}

/// What happens to open streams of a client when their key is withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnRevoke {
    /// They go on to their end.
    #[default]
    Finish,
    /// They are cut.
    Cut,
}

const KEY_HELP: &str = "`sluicegate key new NAME` creates a key and prints its hash";

fn keys(table: &Table<'_>) -> Option<Vec<KeyHash>> {
    let nodes = table.one_or_several("key", "keys", KEY_HELP)?;
    let read: Vec<Option<KeyHash>> = nodes.iter().map(hash).collect();
    read.into_iter().collect()
}

/// Where each key of a client's table is written, in the order of [`Client::keys`].
pub(crate) fn key_nodes<'a>(client: &Node<'a>) -> Vec<Node<'a>> {
    let one = client.child("key").map(|node| vec![node]);
    let several = || client.child("keys").and_then(|node| node.items());
    one.or_else(several).unwrap_or_default()
}

/// A string that is no hash may be the key itself, so it is not shown.
fn hash(node: &Node<'_>) -> Option<KeyHash> {
    let help = r#"write "sha256:" and the 64 lowercase hex digits of the key's SHA-256; `sluicegate key new NAME` prints them"#;
    let Some(text) = node.value.as_str() else {
        return node.mistyped("the hash of a key, as a string", help);
    };
    let in_clear =
        |_| complaint("is not the hash of a key (a key in clear must not be written in this file)", help);
    let hash = node.accept(text.parse::<KeyHash>().map_err(in_clear))?;
    if hash.as_bytes().iter().all(|byte| *byte == 0) {
        node.warn(complaint(
            "is the sample's hash, which matches no key",
            "replace it with the hash of a real key: `sluicegate key new NAME`",
        ));
    }
    Some(hash)
}

/// The name of a model, or the beginning of names and `*`.
pub(super) fn model_pattern(text: &str) -> Result<String, Complaint> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    let sound = text.len() <= 256 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound || stem.contains('*') {
        return Err(complaint(
            "is not the name of a model",
            r#"for example "gpt-4o", or "gpt-4o*" for all names that begin with gpt-4o"#,
        ));
    }
    Ok(text.to_owned())
}
