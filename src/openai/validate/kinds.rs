//! Types of JSON values.

use std::fmt;

/// A set of types of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// `null`
    pub(super) const NULL: Self = Self(1);
    /// `true` or `false`
    pub(super) const BOOLEAN: Self = Self(1 << 1);
    /// A string.
    pub(super) const STRING: Self = Self(1 << 2);
    /// An array.
    pub(super) const ARRAY: Self = Self(1 << 3);
    /// An object.
    pub(super) const OBJECT: Self = Self(1 << 4);
    /// A number without a fraction; `1.0` is one.
    pub(super) const INTEGER: Self = Self(1 << 5);
    /// Any number.
    pub(super) const NUMBER: Self = Self(1 << 5 | 1 << 6);
    /// All types.
    pub(super) const ANY: Self = Self(0x7F);

    /// All types, by their names in JSON Schema.
    const NAMES: [(Self, &'static str); 7] = [
        (Self::STRING, "string"),
        (Self::NUMBER, "number"),
        (Self::INTEGER, "integer"),
        (Self::BOOLEAN, "boolean"),
        (Self::ARRAY, "array"),
        (Self::OBJECT, "object"),
        (Self::NULL, "null"),
    ];

    /// The type of a value that begins with this byte; that of any number is [`Self::INTEGER`].
    pub(super) const fn of(first: u8) -> Option<Self> {
        Some(match first {
            b'"' => Self::STRING,
            b'{' => Self::OBJECT,
            b'[' => Self::ARRAY,
            b'n' => Self::NULL,
            b't' | b'f' => Self::BOOLEAN,
            b'-' | b'0'..=b'9' => Self::INTEGER,
            _ => return None,
        })
    }

    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without those.
    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both, if anything is.
    pub(super) const fn in_common(self, other: Self) -> Option<Self> {
        let both = self.0 & other.0;
        if both == 0 { None } else { Some(Self(both)) }
    }

    /// Whether all of `other` is among these.
    pub(super) const fn have(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether numbers are allowed, but only whole ones.
    pub(super) const fn wants_whole_numbers(self) -> bool {
        self.have(Self::INTEGER) && !self.have(Self::NUMBER)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_named = |kind: Self| match kind {
            Self::INTEGER => self.wants_whole_numbers(),
            kind => self.have(kind),
        };
        let mut separator = "";
        for (_, name) in Self::NAMES.into_iter().filter(|(kind, _)| is_named(*kind)) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        Ok(())
    }
}
