//! Refusals that are certain before a request is read, from what this process knows of the shared counts.

use std::sync::{Arc, atomic::Ordering};

use super::{
    reserved::{Arrival, refusal},
    sharing::Sharing,
};
use crate::limit::{
    Applied, Demand, Moment, Refused,
    certain::{before_queues, certain_refusal},
};

impl Sharing {
    /// As [`certain_refusal`], for shared counts. Asks the store nothing.
    pub fn certain_refusal(self: &Arc<Self>, limits: &[Applied], moment: Moment) -> Option<Refused> {
        let limits = before_queues(limits);
        if self.online.load(Ordering::Acquire) == 0 {
            let refused = self.refusal_alone(limits, moment)?;
            self.count_fallback();
            return Some(refused);
        }
        let (wall, subjects) = (self.wall(moment), &self.subjects);
        let arrival =
            Arrival { now: moment.monotonic, wall, subjects, has_waited: false, counts_asked: false };
        let refused = limits.iter().find_map(|applied| refusal(applied, Demand::default(), arrival))?;
        self.count_remembered();
        Some(refused)
    }

    /// The refusal of the part that this process admits alone.
    fn refusal_alone(&self, limits: &[Applied], moment: Moment) -> Option<Refused> {
        // As in an admission.
        let moment = Moment { wall: self.wall(moment), ..moment };
        let refused = certain_refusal(&self.parts(limits, moment), moment)?;
        Some(super::alone::whole(refused, limits))
    }
}
