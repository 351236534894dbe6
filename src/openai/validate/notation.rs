//! How the path of a parameter is written.

use std::fmt::Write as _;

/// How the path of a parameter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// OpenAI's: `messages[0].content[1].image_url`
    Brackets,
    /// Anthropic's, which also names the variants of an object: `messages.0.content.1.image.source`
    Dots,
}

/// A step on the way to a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    Member(&'static str),
    Index(usize),
    Variant(&'static str),
}

impl Notation {
    /// The path, whose innermost segment is the first; empty for the body as a whole.
    pub(super) fn write(self, path: &[Segment]) -> String {
        let mut written = String::new();
        for segment in path.iter().rev() {
            let dot = if written.is_empty() { "" } else { "." };
            // Writing to a string does not fail.
            let _ = match (segment, self) {
                (Segment::Member(name), _) => write!(written, "{dot}{name}"),
                (Segment::Index(index), Self::Brackets) => write!(written, "[{index}]"),
                (Segment::Index(index), Self::Dots) => write!(written, "{dot}{index}"),
                (Segment::Variant(name), Self::Dots) => write!(written, "{dot}{name}"),
                (Segment::Variant(_), Self::Brackets) => Ok(()),
            };
        }
        written
    }
}
