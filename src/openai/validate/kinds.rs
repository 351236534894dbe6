//! Types of JSON values.

use std::fmt;

/// A set of types of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// No type.
    pub(super) const NONE: Self = Self(1 << 7);
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

    /// The type of a value that begins with this byte; that of any number is [`Self::INTEGER`], and no value begins so: [`Self::NONE`].
    #[inline]
    pub(super) const fn of(first: u8) -> Self {
        Self(BY_FIRST_BYTE[first as usize])
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

/// The types of values by their first bytes.
static BY_FIRST_BYTE: [u8; 256] = {
    let mut kinds = [Kinds::NONE.0; 256];
    kinds[b'"' as usize] = Kinds::STRING.0;
    kinds[b'{' as usize] = Kinds::OBJECT.0;
    kinds[b'[' as usize] = Kinds::ARRAY.0;
    kinds[b'n' as usize] = Kinds::NULL.0;
    kinds[b't' as usize] = Kinds::BOOLEAN.0;
    kinds[b'f' as usize] = Kinds::BOOLEAN.0;
    kinds[b'-' as usize] = Kinds::INTEGER.0;
    let mut digit = b'0';
    while digit <= b'9' {
        kinds[digit as usize] = Kinds::INTEGER.0;
        digit += 1;
    }
    kinds
};

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
