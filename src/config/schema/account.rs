//! The accounts of a provider that the keys and targets of an upstream belong to.

use std::sync::Arc;

use super::Source;
use crate::config::{
    declare::{Keys as _, Kind as _, Shape, described, keys, text},
    naming::is_name,
    problem::{Complaint, complaint},
    reader::{Node, Table},
};

keys! {
    /// An entry of `keys`: where the key is read from, as any secret, and its account.
    pub(crate) struct UpstreamKey {
        env = described(Shape::Text("name of an environment variable")), "As of every secret.";
        file = described(Shape::Text("path")), "As of every secret.";
        credential = described(Shape::Text("name of a systemd credential")), "As of every secret.";
        account = text("name of an account", account_name).or("".into()),
            "The account of the provider that the key belongs to.",
            { default: "an account of its own", since: "0.2.0" };
    }
}

/// Which account of the provider a key belongs to. Its name is made of the configuration, never of the secret, so that it stays the same when
/// the key is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAccount {
    /// `account = "main"`: shared with every key and target that names the same.
    Named(Arc<str>),
    /// An account of its own, named by where the key is read from: `env:OPENAI_API_KEY`.
    Own(String),
}

/// The name of an account: letters, digits, `-`, `_` and `.`.
pub(super) fn account_name(text: &str) -> Result<Arc<str>, Complaint> {
    if is_name(text) {
        return Ok(text.into());
    }
    let help = "use at most 64 letters, digits, `-`, `_` and `.`, and nothing that looks like a key";
    Err(complaint("is not a valid name", help))
}

/// The account that a table names, if it names one.
pub(super) fn named(table: &Table<'_>) -> Option<Option<Arc<str>>> {
    table.get("account").map_or(Some(None), |node| node.parse(account_name).map(Some))
}

/// The account of the key that is read from where `node` says. What is wrong with the reference itself is reported where it is read.
pub(super) fn of_key(node: &Node<'_>) -> Option<KeyAccount> {
    if let Some(written) = node.child("account") {
        return written.parse(account_name).map(KeyAccount::Named);
    }
    let source = Source::NAMES.iter().find_map(|kind| {
        let name = node.child(kind)?;
        Some(format!("{kind}:{}", name.value.as_str()?))
    });
    source.map(KeyAccount::Own)
}
