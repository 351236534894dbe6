//! What an exchange holds from its admission to its end.

use std::fmt;

use super::Finished;

/// What admission granted to an exchange: settled exactly once, when the exchange is dropped, with how it ended and the usage that was
/// reported, before the log and the metrics hear of it.
pub struct Permit {
    settle: Option<Settle>,
}

type Settle = Box<dyn FnOnce(&Finished<'_>)>;

impl Permit {
    /// The permit of a request that no limit applies to: there is nothing to settle.
    pub fn unlimited() -> Self {
        Self { settle: None }
    }

    /// A permit that is settled by `settle`, which also drops, and so gives back, what it owns.
    pub fn settled_by(settle: impl FnOnce(&Finished<'_>) + 'static) -> Self {
        Self { settle: Some(Box::new(settle)) }
    }

    /// Whether there is anything to settle.
    pub(super) fn is_needed(&self) -> bool {
        self.settle.is_some()
    }

    pub(super) fn settle(self, finished: &Finished<'_>) {
        if let Some(settle) = self.settle {
            settle(finished);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("needed", &self.is_needed()).finish_non_exhaustive()
    }
}
