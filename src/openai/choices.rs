//! The choices of a chat or completions answer.

/// Which choices a stream has shown and which of them have finished. Only the first 128 are counted: the API allows no more.
#[derive(Debug, Default)]
pub(super) struct Choices {
    seen: u128,
    finished: u128,
    beyond: bool,
}

impl Choices {
    pub(super) fn see(&mut self, index: u64, finished: bool) {
        let bit = u32::try_from(index).ok().and_then(|index| 1u128.checked_shl(index));
        self.beyond |= bit.is_none();
        let bit = bit.unwrap_or(0);
        self.seen |= bit;
        if finished {
            self.finished |= bit;
        }
    }

    /// Whether there were choices and every one has finished.
    pub(super) fn all_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished && !self.beyond
    }
}
