//! Names of tables that a dot has split.

use super::{
    naming::{shown, suggestion},
    problem::complaint,
    reader::Node,
};

/// Reports a name whose dot has split it: `[model.gpt-3.5-turbo]` is a table `5-turbo` within `[model.gpt-3]`.
pub(crate) fn is_split(kind: &str, name: &str, node: &Node<'_>, known: &[&str]) -> bool {
    let entries = node.is_table().then(|| node.entries()).flatten().unwrap_or_default();
    // What is like a known key is a slip of another kind.
    let is_foreign = |key: &str| !known.contains(&key) && suggestion(key, known.iter().copied()).is_none();
    let is_part = |(key, inner): &(&str, Node<'_>)| inner.is_table() && is_foreign(key);
    let Some((key, inner)) = entries.first().filter(|_| entries.iter().all(is_part)) else { return false };
    let mut whole = format!("{name}.{key}");
    let mut here = inner.clone();
    while let Some(next) = only_table(&here).filter(|(key, _)| !known.contains(key)) {
        whole = format!("{whole}.{}", next.0);
        here = next.1;
    }
    let help = match shown(&whole, "") {
        hidden if hidden.is_empty() => format!("write [{kind}.\"NAME\"]"),
        _ => format!("write [{kind}.{whole:?}]"),
    };
    inner.fail(complaint("a name with a dot needs quotes", help));
    true
}

/// The entry of a table that has one, which is a table.
fn only_table<'a>(node: &Node<'a>) -> Option<(&'a str, Node<'a>)> {
    let mut entries = node.entries()?;
    if entries.len() != 1 {
        return None;
    }
    entries.pop().filter(|(_, inner)| inner.is_table())
}
