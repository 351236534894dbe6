//! The permits that an exchange holds from its admission to its end.

use std::fmt;

use super::Finished;

/// A grant of admission to an exchange. The permit is settled exactly once, when the exchange is dropped, with its outcome and the reported
/// usage, before the access line is logged and the metrics are counted.
pub struct Permit {
    settle: Option<Settle>,
}

type Settle = Box<dyn FnOnce(&Finished<'_>)>;

impl Permit {
    /// Creates the permit of a request without limits: there is nothing to settle.
    pub fn unlimited() -> Self {
        Self { settle: None }
    }

    /// Creates a permit that is settled by `settle`. Calling `settle` also drops, and so releases, everything it owns.
    pub fn settled_by(settle: impl FnOnce(&Finished<'_>) + 'static) -> Self {
        Self { settle: Some(Box::new(settle)) }
    }

    /// Whether the permit has anything to settle.
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, net::Ipv4Addr, rc::Rc, sync::Arc, time::Instant};

    use http::{Method, Version};

    use super::*;
    use crate::{
        body::ConnectionState,
        exchange::{Exchange, Load, Opening},
        fault::{ErrorForm, Fault, LanguageChoice, Outcome},
        telemetry::{
            ids::TraceContext,
            metrics::{sdk::Sdk, worker::WorkerMetrics},
        },
    };

    fn exchange(metrics: &Arc<WorkerMetrics>, load: &Arc<Load>) -> Box<Exchange> {
        let opening = Opening {
            client: Ipv4Addr::LOCALHOST.into(),
            tls: false,
            trace: TraceContext::random(),
            version: Version::HTTP_11,
            method: Method::POST,
            path: "/v1/chat/completions".to_owned(),
            error_form: ErrorForm::OpenAi,
            languages: LanguageChoice::default(),
            caller_ids: None,
            sdk: Sdk::default(),
        };
        let connection = ConnectionState::new(Instant::now());
        Exchange::open(opening, &connection, None, metrics.clone(), load.exchange())
    }

    /// The fault with which each permit was settled, and the number of exchanges counted in the metrics at that time.
    type Settled = Rc<RefCell<Vec<(Option<&'static str>, u64)>>>;

    fn permit(settled: &Settled, metrics: &Arc<WorkerMetrics>) -> Permit {
        let (settled, metrics) = (settled.clone(), metrics.clone());
        Permit::settled_by(move |finished| {
            settled.borrow_mut().push((finished.outcome.fault, counted(&metrics)));
        })
    }

    fn counted(metrics: &WorkerMetrics) -> u64 {
        let mut counts = crate::telemetry::metrics::worker::Counts::default();
        metrics.add_to(&mut counts);
        counts.exchanges.values().sum()
    }

    #[test]
    fn permits_are_settled_once_with_the_outcome_and_before_the_metrics() {
        for (end, fault) in [
            (None, Some("caller_left")),
            (Some(Ok(())), None),
            (Some(Err(Fault::Overloaded)), Some("gateway_overloaded")),
        ] {
            let (metrics, load, settled) = (Arc::default(), Arc::default(), Settled::default());
            let mut exchange = exchange(&metrics, &load);
            exchange.hold(Permit::unlimited());
            exchange.hold(permit(&settled, &metrics));
            exchange.hold(permit(&settled, &metrics));
            match end {
                None => {}
                Some(Ok(())) => exchange.conclude(Outcome::COMPLETE),
                Some(Err(fault)) => exchange.fail(&fault, |_| false),
            }
            assert!(settled.borrow().is_empty());
            assert_eq!(load.weight().0, 1);
            drop(exchange);
            assert_eq!(*settled.borrow(), [(fault, 0), (fault, 0)]);
            assert_eq!((counted(&metrics), load.weight().0), (1, 0));
        }
    }
}
