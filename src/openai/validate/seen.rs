//! Which members of an object have been seen.

use super::{
    invalid::{Invalid, Problem, Segment},
    kinds::Kinds,
    schema::Shape,
    walk::Stop,
};

/// Which members of an object have been seen, one bit for each.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    /// Those that are there.
    pub(super) there: u64,
    /// Those that are neither `null` nor `false`.
    pub(super) filled: u64,
    /// Which variant the object is, if that is known.
    pub(super) variant: Option<usize>,
}

impl Seen {
    /// Nothing of this shape yet.
    pub(super) fn of(shape: &Shape) -> Self {
        Self { variant: shape.tag.and_then(|tag| tag.default), ..Self::default() }
    }

    /// Notes a member by its number and the first byte of its value; false if it is there twice.
    pub(super) fn note(&mut self, number: usize, first_byte: Option<u8>) -> bool {
        let bit = 1 << number;
        let is_first = self.there & bit == 0;
        self.there |= bit;
        self.filled |= u64::from(!matches!(first_byte, Some(b'n' | b'f'))) << number;
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

    /// Whether all members are there that must be.
    pub(super) fn check(&self, shape: &Shape) -> Result<(), Stop> {
        let needs = match (&shape.tag, self.variant) {
            (Some(tag), Some(variant)) => tag.needs.get(variant).copied().unwrap_or_default(),
            _ => 0,
        };
        let lacking = shape.required & !self.there | needs & !self.filled;
        if lacking == 0 { Ok(()) } else { Err(self.lacks(shape, lacking)) }
    }

    #[cold]
    fn lacks(&self, shape: &Shape, lacking: u64) -> Stop {
        let number = lacking.trailing_zeros() as usize;
        let Some(member) = shape.members.get(number) else {
            return Stop::Invalid(Invalid::new(Problem::Missing));
        };
        let problem = match self.there >> number & 1 {
            0 => Problem::Missing,
            _ => Problem::WrongType { found: Kinds::NULL, allowed: member.rule.kinds.without(Kinds::NULL) },
        };
        Stop::Invalid(Invalid::new(problem).within(Segment::Member(member.name)))
    }
}
