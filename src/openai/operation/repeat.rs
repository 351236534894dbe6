//! Whether a request may be sent again.

/// What a second request of the same content does, when the first one may have been acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// It reads: nothing changes.
    Read,
    /// It computes: that costs tokens, and nothing changes.
    Compute,
    /// Everything ends in the same state (deleting, cancelling, setting).
    SameEnd,
    /// It creates something a second time.
    Create,
}

impl Repeat {
    /// Whether a request may be sent again although the upstream may have acted on it.
    pub fn is_harmless(self) -> bool {
        self != Self::Create
    }

    /// Whether the request is about things that one account has: a repeat must not go to another upstream, which knows none of their ids and
    /// would answer 404 (or list things of its own).
    pub fn is_about_kept_things(self) -> bool {
        matches!(self, Self::Read | Self::SameEnd)
    }
}
