//! `[client.NAME]`

use std::sync::Arc;

use super::{Names, one_or_several, references};
use crate::config::{
    keys,
    problem::{Complaint, complaint},
    reader::Node,
    schema::Client,
    secret::KeyHash,
};

/// A client, and the place of each of its keys.
pub(super) struct Found<'a> {
    pub(super) client: Client,
    pub(super) places: Vec<Node<'a>>,
}

pub(super) fn client<'a>(node: &Node<'a>, names: &Names<'_>) -> Option<Found<'a>> {
    let table = node.table(keys::CLIENT)?;
    let help = "`sluicegate key new NAME` makes a key and prints its hash";
    let places = one_or_several(&table, "key", "keys", help);
    let keys = places.iter().flatten().map(hash).collect::<Vec<Option<KeyHash>>>();
    let all = "leave it out to allow all";
    let routes: Option<Vec<Arc<str>>> =
        table.get("routes").map(|list| references(&list, "route", &names.routes, all));
    let models = table.get("models").map(|list| {
        let items = list.some_items(all).unwrap_or_default();
        items.iter().filter_map(|item| item.parse(model)).collect()
    });
    let keys = keys.into_iter().collect::<Option<_>>()?;
    Some(Found { client: Client { keys, routes, models }, places: places? })
}

/// Whatever stands here instead of a hash may be the key itself, and is not shown.
fn hash(node: &Node<'_>) -> Option<KeyHash> {
    let help = r#"write "sha256:" and the 64 lowercase hex digits of the key's SHA-256; `sluicegate key new NAME` prints both"#;
    let Some(text) = node.value.as_str() else { return node.mistyped("a key's hash, as a string", help) };
    let in_clear = |_| complaint("is not the hash of a key (a key in clear is never written here)", help);
    let hash = node.accept(text.parse::<KeyHash>().map_err(in_clear))?;
    if hash.as_bytes().iter().all(|byte| *byte == 0) {
        node.warn(complaint(
            "is the sample's hash, which no key has",
            "put a real one here: `sluicegate key new NAME`",
        ));
    }
    Some(hash)
}

fn model(text: &str) -> Result<String, Complaint> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    let sound = text.len() <= 256 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound || stem.contains('*') {
        return Err(complaint(
            "is not the name of a model",
            r#"as in "gpt-4o", or "gpt-4o*" for all that begin so"#,
        ));
    }
    Ok(text.to_owned())
}
