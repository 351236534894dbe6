//! What is wrong with a request. Nothing of the request's own text is in it: only names from the tables, indexes, types and lengths.

use std::fmt;

use thiserror::Error;

use super::{
    kinds::Kinds,
    notation::{Notation, Segment},
    schema::{Shape, Variant},
};
use crate::openai::FactsError;

/// Why a request that is checked has no facts.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The body cannot be read, as it could not without the check.
    #[error(transparent)]
    Unreadable(#[from] FactsError),
    /// The body breaks a rule.
    #[error(transparent)]
    Invalid(Box<Invalid>),
}

/// What is wrong with a request, and where.
#[derive(Debug)]
pub struct Invalid {
    /// What is wrong.
    pub problem: Problem,
    /// The way to the parameter, the innermost first.
    path: Vec<Segment>,
    /// The path as the API of the request writes it; `None`: the body as a whole.
    param: Option<String>,
}

/// What is wrong with a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Problem {
    /// The body is not an object.
    NotAnObject {
        /// What it is.
        found: Kinds,
    },
    /// It must be there, and is not.
    Missing,
    /// It is of another type.
    WrongType {
        /// Its type.
        found: Kinds,
        /// What it may be.
        allowed: Kinds,
    },
    /// It is none of the known values.
    UnknownValue {
        /// Its length in bytes.
        length: usize,
        /// The values.
        allowed: Names,
    },
    /// It is no name: it has something else than letters, digits, `_` and `-`.
    NotAName,
    /// An array without items, where at least one is needed.
    EmptyArray,
    /// An array with too many items.
    ArrayTooLong {
        /// Its items.
        found: usize,
        /// Most items.
        most: usize,
    },
    /// A string with too few characters.
    StringTooShort {
        /// Its length in characters.
        length: usize,
        /// Fewest characters.
        least: usize,
    },
    /// A string with too many characters.
    StringTooLong {
        /// Its length in characters.
        length: usize,
        /// Most characters.
        most: usize,
    },
    /// An object with too many members.
    TooManyMembers {
        /// Its members.
        found: usize,
        /// Most members.
        most: usize,
    },
    /// A member of an object has a name that is too long.
    NameTooLong {
        /// Most characters.
        most: usize,
    },
    /// A number below the least.
    TooSmall {
        /// The least.
        least: f64,
        /// Only whole numbers are allowed.
        whole: bool,
    },
    /// A number above the most.
    TooLarge {
        /// The most.
        most: f64,
        /// Only whole numbers are allowed.
        whole: bool,
    },
    /// It is allowed only together with another parameter.
    Needs {
        /// The other parameter, and its value if one is needed.
        other: &'static str,
    },
    /// It is there twice. Readers differ in which they take (RFC 8259, section 4).
    Duplicate,
    /// The body is nested deeper than this.
    TooDeep {
        /// Objects and arrays within one another.
        most: usize,
    },
}

/// The values that a parameter may have.
#[derive(Debug, Clone, Copy)]
pub struct Names(pub(super) &'static [Variant]);

impl Invalid {
    pub(super) fn new(problem: Problem) -> Box<Self> {
        Box::new(Self { problem, path: Vec::new(), param: None })
    }

    /// Notes that it is in this part of what surrounds it.
    pub(super) fn within(&mut self, segment: Segment) {
        self.path.push(segment);
    }

    /// The same, in a variant of this shape, unless the tag itself is at fault.
    #[must_use]
    pub(super) fn within_variant(mut self: Box<Self>, name: &'static str, shape: &Shape) -> Box<Self> {
        let tag = shape.tag.and_then(|tag| shape.members.get(tag.member)).map(|member| member.name);
        if !matches!(self.path.last(), Some(Segment::Member(name)) if Some(*name) == tag) {
            self.within(Segment::Variant(name));
        }
        self
    }

    /// The same, with its path written down.
    #[must_use]
    pub(super) fn written(mut self: Box<Self>, notation: Notation) -> Box<Self> {
        let param = notation.write(&self.path);
        self.param = (!param.is_empty()).then_some(param);
        self
    }

    /// The parameter that is concerned, in the notation of the request's API; `None`: the body as a whole.
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }
}

impl Problem {
    /// All codes that a problem can have.
    pub const CODES: [&'static str; 13] = [
        "invalid_body",
        "missing_required_parameter",
        "invalid_type",
        "invalid_value",
        "empty_array",
        "array_above_max_length",
        "string_below_min_length",
        "string_above_max_length",
        "object_above_max_properties",
        "integer_below_min_value",
        "integer_above_max_value",
        "decimal_below_min_value",
        "decimal_above_max_value",
    ];

    /// The provider's own code for it, or the gateway's where the provider accepts it, or has no code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject { .. } | Self::Duplicate | Self::TooDeep { .. } => "invalid_body",
            Self::Missing => "missing_required_parameter",
            Self::WrongType { .. } => "invalid_type",
            Self::UnknownValue { .. } | Self::NotAName | Self::Needs { .. } => "invalid_value",
            Self::EmptyArray => "empty_array",
            Self::ArrayTooLong { .. } => "array_above_max_length",
            Self::StringTooShort { .. } => "string_below_min_length",
            Self::StringTooLong { .. } | Self::NameTooLong { .. } => "string_above_max_length",
            Self::TooManyMembers { .. } => "object_above_max_properties",
            Self::TooSmall { whole: true, .. } => "integer_below_min_value",
            Self::TooSmall { whole: false, .. } => "decimal_below_min_value",
            Self::TooLarge { whole: true, .. } => "integer_above_max_value",
            Self::TooLarge { whole: false, .. } => "decimal_above_max_value",
        }
    }
}

impl Names {
    /// The values.
    pub fn all(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|variant| variant.name)
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.problem.code(), self.param().unwrap_or("the body"))
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Invalid {
    /// One with each problem, each at a parameter, except where the whole body is concerned.
    #[cfg(test)]
    #[expect(clippy::vec_box, reason = "a fault has it in a box")]
    pub(crate) fn examples() -> Vec<Box<Self>> {
        const WORDS: &[Variant] = &[super::schema::word("user")];
        let of_body = [Problem::NotAnObject { found: Kinds::ARRAY }, Problem::TooDeep { most: 128 }];
        let of_parameter = [
            Problem::Missing,
            Problem::WrongType { found: Kinds::NULL, allowed: Kinds::STRING },
            Problem::UnknownValue { length: 5, allowed: Names(WORDS) },
            Problem::NotAName,
            Problem::EmptyArray,
            Problem::ArrayTooLong { found: 5, most: 4 },
            Problem::StringTooShort { length: 0, least: 1 },
            Problem::StringTooLong { length: 65, most: 64 },
            Problem::TooManyMembers { found: 17, most: 16 },
            Problem::NameTooLong { most: 64 },
            Problem::TooSmall { least: 0.0, whole: false },
            Problem::TooSmall { least: 1.0, whole: true },
            Problem::TooLarge { most: 2.0, whole: false },
            Problem::TooLarge { most: 128.0, whole: true },
            Problem::Needs { other: "stream" },
            Problem::Duplicate,
        ];
        let at = |problem| {
            let mut invalid = Self::new(problem);
            invalid.within(Segment::Member("temperature"));
            invalid
        };
        let of_body = of_body.into_iter().map(Self::new);
        of_body.chain(of_parameter.into_iter().map(at)).map(|it| it.written(Notation::Brackets)).collect()
    }
}
