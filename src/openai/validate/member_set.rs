//! Which members of an object have been seen.

use super::{
    invalid::{Invalid, Problem},
    kinds::Kinds,
    notation::Segment,
    schema::Shape,
};

/// Which members of an object have been seen, one bit for each.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct MemberSet {
    /// Those that are there.
    there: u64,
    /// Those that are neither `null` nor `false`, nor an empty array where that matters.
    pub(super) filled: u64,
    /// Which variant the object is, if that is known.
    pub(super) variant: Option<usize>,
}

impl MemberSet {
    /// Nothing of this shape yet.
    #[inline]
    pub(super) fn of(shape: &Shape) -> Self {
        Self { there: 0, filled: 0, variant: shape.tag.as_ref().and_then(|tag| tag.default) }
    }

    /// Notes a member by its number and the first byte of its value; false if it is there twice.
    #[inline]
    pub(super) fn note(&mut self, number: usize, first: u8) -> bool {
        let bit = 1 << number;
        let is_first = self.there & bit == 0;
        self.there |= bit;
        self.filled |= u64::from(!matches!(first, b'n' | b'f')) << number;
        is_first
    }

    /// Takes a member for being there.
    pub(super) fn assume(&mut self, number: usize) {
        self.there |= 1 << number;
        self.filled |= 1 << number;
    }

    /// Takes a member for empty.
    pub(super) fn empty(&mut self, number: usize) {
        self.filled &= !(1 << number);
    }

    /// Bits of the members that must be there and are not.
    #[inline]
    pub(super) fn lacking(&self, shape: &Shape) -> u64 {
        let needs = match (&shape.tag, self.variant) {
            (Some(tag), Some(variant)) => tag.needs.get(variant).copied().unwrap_or_default(),
            _ => 0,
        };
        shape.required & !self.there | needs & !self.filled
    }

    /// What is wrong about the first of these members that are lacking.
    #[cold]
    pub(super) fn lacks(&self, shape: &Shape, lacking: u64) -> Box<Invalid> {
        let number = lacking.trailing_zeros() as usize;
        let Some(member) = shape.members.get(number) else { return Invalid::new(Problem::Missing) };
        let mut invalid = Invalid::new(match self.there >> number & 1 {
            0 => Problem::Missing,
            _ => Problem::WrongType { found: Kinds::NULL, allowed: member.rule.kinds.without(Kinds::NULL) },
        });
        invalid.within(Segment::Member(member.name));
        invalid
    }
}
