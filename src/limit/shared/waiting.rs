//! What requests whose replies are not there yet ask of one counter.

/// The most requests that were given up while an earlier one waits. Further ones, and all before them, count as answered: some requests are then
/// sent that could have been refused without a call.
const GIVEN_UP: usize = 64;

/// What has been asked of one counter since the start, by the units that are counted by time: nanoseconds of a clock, or units of a period.
///
/// Each request has a part of these sums, which ends with its [`WaitingRequest`]. The store executes the calls of one connection in their order, so a reply
/// counts what was asked before it, too. A request that ends without a reply takes back its own part only.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    asked: [i64; 3],
    /// How much of that is in the copies of the shared counts.
    answered: [i64; 3],
    /// Boxed, because most counters never have any.
    #[expect(clippy::box_collection, reason = "a counter is smaller with one word than with three")]
    given_up: Option<Box<Vec<WaitingRequest>>>,
}

/// What one request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitingRequest {
    /// The sums with this request.
    until: [i64; 3],
    own: [i64; 3],
}

impl Waiting {
    /// Adds what a request asks for.
    pub(super) fn ask(&mut self, own: [i64; 3]) -> WaitingRequest {
        self.asked = added(self.asked, own);
        WaitingRequest { until: self.asked, own }
    }

    /// What is waited for, of a unit.
    pub(super) fn of(&self, position: usize) -> i64 {
        let (Some(asked), Some(answered)) = (self.asked.get(position), self.answered.get(position)) else {
            return 0;
        };
        let given_up = self.given_up().filter(|other| other.is_after(&self.answered, position));
        let given_up: i64 = given_up.filter_map(|other| other.own.get(position)).sum();
        asked.wrapping_sub(*answered).saturating_sub(given_up).max(0)
    }

    /// The reply to a request is there, and its state has not been copied yet.
    pub(super) fn is_answered(&mut self, request: &WaitingRequest) {
        for (position, answered) in self.answered.iter_mut().enumerate() {
            let (Some(until), Some(asked)) = (request.until.get(position), self.asked.get(position)) else {
                continue;
            };
            // Never beyond what was asked for: later requests that were given up have taken back their parts.
            let until = if until.wrapping_sub(*asked) > 0 { *asked } else { *until };
            if until.wrapping_sub(*answered) > 0 {
                *answered = until;
            }
        }
        self.forget();
    }

    /// A request ends without a reply.
    pub(super) fn is_given_up(&mut self, request: WaitingRequest) {
        if !request.is_after_any(&self.answered) {
            return;
        }
        if request.until == self.asked {
            self.asked = subtracted(self.asked, request.own);
            self.take_back();
            return;
        }
        if self.given_up().count() >= GIVEN_UP {
            self.is_answered(&request);
            return;
        }
        self.given_up.get_or_insert_default().push(request);
    }

    fn given_up(&self) -> impl Iterator<Item = &WaitingRequest> {
        self.given_up.iter().flat_map(|all| all.iter())
    }

    /// Takes back requests that are the last ones now.
    fn take_back(&mut self) {
        let Some(all) = &mut self.given_up else { return };
        while let Some(position) = all.iter().position(|other| other.until == self.asked) {
            self.asked = subtracted(self.asked, all.swap_remove(position).own);
        }
        self.forget();
    }

    /// Forgets requests that are in the copies.
    fn forget(&mut self) {
        let Some(all) = &mut self.given_up else { return };
        all.retain(|other| other.is_after_any(&self.answered));
        if all.is_empty() {
            self.given_up = None;
        }
    }
}

impl WaitingRequest {
    /// Whether the sums do not have this request's part of a unit yet.
    fn is_after(&self, sums: &[i64; 3], position: usize) -> bool {
        match (self.until.get(position), sums.get(position)) {
            (Some(until), Some(sum)) => until.wrapping_sub(*sum) > 0,
            _ => false,
        }
    }

    fn is_after_any(&self, sums: &[i64; 3]) -> bool {
        (0..sums.len()).any(|position| self.is_after(sums, position))
    }
}

fn added(mut sums: [i64; 3], more: [i64; 3]) -> [i64; 3] {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
    sums
}

fn subtracted(mut sums: [i64; 3], less: [i64; 3]) -> [i64; 3] {
    sums.iter_mut().zip(less).for_each(|(sum, less)| *sum = sum.wrapping_sub(less));
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_that_is_given_up_takes_back_its_own_part_only() {
        let mut waiting = Waiting::default();
        let [first, second, third] = [1, 10, 100].map(|units| waiting.ask([units, 0, 0]));
        waiting.is_given_up(second);
        assert_eq!(waiting.of(0), 101);
        waiting.is_answered(&first);
        assert_eq!(waiting.of(0), 100);
        let fourth = waiting.ask([1_000, 0, 0]);
        waiting.is_given_up(third);
        assert_eq!(waiting.of(0), 1_000);
        waiting.is_given_up(fourth);
        assert_eq!((waiting.of(0), waiting.given_up.is_none()), (0, true));
    }

    #[test]
    fn a_reply_counts_what_was_asked_before() {
        let mut waiting = Waiting::default();
        let [first, second, third] = [1, 10, 100].map(|units| waiting.ask([units, units, 0]));
        waiting.is_answered(&second);
        assert_eq!((waiting.of(0), waiting.of(1), waiting.of(2)), (100, 100, 0));
        waiting.is_given_up(first);
        waiting.is_answered(&first);
        assert_eq!(waiting.of(0), 100);
        waiting.is_answered(&third);
        assert_eq!(waiting.of(0), 0);
    }

    #[test]
    fn requests_that_are_given_up_are_bounded() {
        let mut waiting = Waiting::default();
        let first = waiting.ask([1, 0, 0]);
        let later: Vec<WaitingRequest> = (0..3 * GIVEN_UP).map(|_| waiting.ask([1, 0, 0])).collect();
        let last = waiting.ask([1, 0, 0]);
        for request in later {
            waiting.is_given_up(request);
            assert!(waiting.given_up().count() <= GIVEN_UP);
            assert!(waiting.of(0) >= 1, "the last one waits");
        }
        waiting.is_answered(&first);
        waiting.is_given_up(last);
        assert_eq!((waiting.of(0), waiting.given_up.is_none()), (0, true));
    }

    proptest! {
        /// Against a list of the requests that wait.
        #[test]
        fn what_waits_is_what_was_neither_answered_nor_given_up(
            steps in prop::collection::vec((0..3_u8, any::<prop::sample::Index>(), 1..9_i64), 1..60),
        ) {
            let mut waiting = Waiting { asked: [i64::MAX - 20; 3], answered: [i64::MAX - 20; 3], given_up: None };
            let mut open: Vec<WaitingRequest> = Vec::new();
            for (step, which, units) in steps {
                match step {
                    1 if !open.is_empty() => {
                        let answered = which.index(open.len());
                        waiting.is_answered(&open[answered]);
                        open.drain(..=answered);
                    }
                    2 if !open.is_empty() => waiting.is_given_up(open.remove(which.index(open.len()))),
                    _ => open.push(waiting.ask([units, 0, 2 * units])),
                }
                let sum: i64 = open.iter().map(|request| request.own[0]).sum();
                prop_assert_eq!((waiting.of(0), waiting.of(1), waiting.of(2)), (sum, 0, 2 * sum));
            }
        }
    }
}
