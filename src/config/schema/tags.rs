//! `tags` of a client.

use crate::config::{
    declare::{ParseAs, Shape, parse_as},
    naming::{is_name, looks_secret},
    problem::{Complaint, complaint},
    reader::Node,
};

/// Most tags of one client. Each one is written to each of the client's access lines.
const MOST: usize = 16;

/// Most bytes of a value.
const LONGEST: usize = 128;

/// A name and a value that the operator gives to the requests of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// A name as names of clients are.
    pub name: Box<str>,
    /// At most 128 bytes, without control characters.
    pub value: Box<str>,
}

/// Values by name.
pub(super) fn tags() -> ParseAs<Vec<Tag>> {
    parse_as(|| Shape::Texts("table of names and values"), |node, _| read(node)).written_as("{}")
}

fn read(node: &Node<'_>) -> Option<Vec<Tag>> {
    let entries = node.named()?;
    if entries.len() > MOST {
        node.fail(complaint(format!("has more than {MOST} tags"), "remove some of them"));
        return None;
    }
    entries.into_iter().filter(|(name, _)| is_name(name)).map(|(name, node)| tag(name, &node)).collect()
}

fn tag(name: &str, node: &Node<'_>) -> Option<Tag> {
    Some(Tag { name: name.into(), value: node.parse(value)? })
}

/// A value is written to the log, so it must not be a key that was pasted in the wrong place.
fn value(text: &str) -> Result<Box<str>, Complaint> {
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(complaint(
            "is not the value of a tag",
            format!("use at most {LONGEST} bytes, without control characters"),
        ));
    }
    if text.split_whitespace().any(looks_secret) {
        return Err(complaint(
            "looks like a key, and would be written to the log",
            "use a value that is not a secret",
        ));
    }
    Ok(text.into())
}
