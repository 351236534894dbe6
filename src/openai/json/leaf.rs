//! What the scan of a JSON text gives: scalars, and where the text is not JSON.

use std::borrow::Cow;

/// The text is not JSON, as was found at this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) struct NotJson {
    pub(in crate::openai) at: usize,
}

/// Any value, as far as a member that should be a scalar is concerned.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::openai) enum Leaf<'j> {
    Null,
    Bool(bool),
    /// A whole number that is not negative.
    Count(u64),
    /// Any other number.
    Number(f64),
    Text(Cow<'j, str>),
    /// An array or object; only whether it is empty is kept.
    Nested {
        filled: bool,
    },
}

impl Leaf<'_> {
    pub(in crate::openai) fn count(&self) -> Option<u64> {
        if let Self::Count(count) = self { Some(*count) } else { None }
    }

    pub(in crate::openai) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Whether there is some text or a list or object with something in it.
    pub(in crate::openai) fn filled(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Nested { filled } => *filled,
            Self::Null | Self::Bool(_) | Self::Count(_) | Self::Number(_) => false,
        }
    }

    /// Whether Python takes the value for true, as the official SDK asks of `error`
    /// (openai-python, `src/openai/_streaming.py`).
    pub(in crate::openai) fn truthy(&self) -> bool {
        match self {
            Self::Bool(truth) => *truth,
            Self::Count(count) => *count != 0,
            Self::Number(number) => *number != 0.0,
            Self::Null | Self::Text(_) | Self::Nested { .. } => self.filled(),
        }
    }
}
