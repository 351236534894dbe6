//! Why limits do not admit a request.

use std::time::Duration;

use crate::{
    fault::{Fault, LimitReached},
    limit::{Refused, Unit},
};

/// Why limits do not admit a request.
#[derive(Debug)]
pub(super) enum NotAdmitted {
    /// A limit is reached, and the request does not wait.
    Refused(Refused),
    /// It has waited for as long as it may.
    TimedOut {
        /// The limit that it has waited for last.
        refused: Refused,
        /// How long, in all queues together.
        waited: Duration,
    },
    /// The process drains, and waits for nobody who has not begun.
    Draining,
}

impl NotAdmitted {
    /// The response.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Refused(refused) => limit_fault(refused),
            Self::TimedOut { refused, waited } => {
                Fault::QueueTimeout { reached: reached(refused), waited: *waited }
            }
            Self::Draining => Fault::Draining,
        }
    }
}

/// What the client is answered when a limit has refused its request.
pub(in crate::proxy) fn limit_fault(refused: &Refused) -> Fault {
    let reached = reached(refused);
    match refused.unit {
        Unit::Requests | Unit::Tokens => Fault::RateLimit(reached),
        Unit::Concurrent => Fault::ConcurrencyLimit(reached),
        Unit::Cost => Fault::CostLimit(reached),
    }
}

fn reached(refused: &Refused) -> LimitReached {
    LimitReached { limit: refused.limit.name.clone(), wait: refused.wait }
}
