//! The use of an upstream key by an attempt, and what the result says about the key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    snapshot::{Route, Step, Target},
    telemetry::metrics::worker::WorkerMetrics,
    upstream::{Circuit, Cooldown, CooldownReason, Key, KeyFailure, KeyPermit, Pick},
};

/// What an upstream's error means for the key of the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyCooldown {
    /// What the key is not to be used for.
    pub(super) what: Cooldown,
    /// The wait that the upstream named, uncapped; `None` if it named none.
    pub(super) named: Option<Duration>,
}

/// The keys of a route, as a request sees them that uses those of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteKeys<'r> {
    pub(super) route: &'r Route,
    /// Index into the route's steps.
    pub(super) step: usize,
    /// The model that the request names.
    pub(super) model: Option<&'r str>,
}

/// The use of a key by an attempt. It lasts as long as the response, because an error may come at any time.
#[derive(Debug)]
pub(super) struct KeyUse {
    route: Arc<Route>,
    /// Index into the route's steps.
    step: usize,
    permit: KeyPermit,
    /// Whether a result has said something about the key. After that only a failure counts.
    is_judged: bool,
}

impl<'r> RouteKeys<'r> {
    /// The model that a request at `step` names.
    fn model(&self, step: &'r Step) -> Option<&'r str> {
        step.model.as_deref().or(self.model)
    }

    /// Whether the route has one key only, for all that a cooldown for this reason concerns.
    pub(super) fn is_only_key(&self, why: CooldownReason) -> bool {
        let Some(own) = self.route.steps.get(self.step) else { return false };
        let is_same = |step: &'r Step| {
            step.upstream.name == own.upstream.name
                && (why != CooldownReason::Limited || self.model(step) == self.model(own))
        };
        own.upstream.keys.len() == 1 && self.route.steps.iter().all(is_same)
    }

    /// Whether other requests for the same have something else to use while `key` is in cooldown for `what`.
    ///
    /// For a rate limit that is another key, another upstream, or another model: requests then wait for the first one that is available. An
    /// outage may last, so something else has to be available now; the last key stays in use, and works again as soon as its owner has seen
    /// to it.
    fn may_do_without(&self, key: &Key, what: &Cooldown, now: Instant) -> bool {
        if self.is_only_key(what.why()) {
            return false;
        }
        if what.why() == CooldownReason::Limited {
            return true;
        }
        let own = std::slice::from_ref(key);
        self.route.steps.iter().any(|step| {
            let is_closed =
                |target: &Target| step.breaker.is_none() || target.state.circuit(now) != Circuit::Open;
            let pick = step.upstream.keys.peek(self.model(step), own, now);
            matches!(pick, Pick::Key(_) | Pick::Unneeded) && step.upstream.targets().any(is_closed)
        })
    }
}

impl KeyUse {
    /// The use of the key of `permit` at the step of `route` with that number.
    pub(super) fn new(route: Arc<Route>, step: usize, permit: KeyPermit) -> Self {
        Self { route, step, permit, is_judged: false }
    }

    /// The key.
    pub(super) fn key(&self) -> &Key {
        self.permit.key()
    }

    /// The number of the key, in the order of the configuration.
    pub(super) fn number(&self) -> Option<usize> {
        self.route.steps.get(self.step)?.upstream.keys.number(self.key())
    }

    /// Notes that the upstream has begun to serve the request with the key.
    pub(super) fn works(&mut self) {
        if std::mem::replace(&mut self.is_judged, true) {
            return;
        }
        let Some(step) = self.route.steps.get(self.step) else { return };
        if step.upstream.keys.succeeded(&mut self.permit) {
            let (upstream, key) = (&step.upstream.name, self.number());
            tracing::info!(%upstream, key, "upstream key works again");
        }
    }

    /// Notes that the attempt for `model`, which the request names, failed because of the key, and reports the start of an outage to the operator.
    /// Returns the cooldown of the key, if one has begun.
    pub(super) fn failed(
        &mut self,
        failed: KeyCooldown,
        model: Option<&str>,
        metrics: &WorkerMetrics,
    ) -> Option<Duration> {
        self.is_judged = true;
        let now = Instant::now();
        let KeyCooldown { what, named } = failed;
        let reason = what.why();
        let keys = RouteKeys { route: &self.route, step: self.step, model };
        let takes_out = keys.may_do_without(self.permit.key(), &what, now);
        let upstream = &self.route.steps.get(self.step)?.upstream;
        let failure = KeyFailure { what, named, takes_out };
        let noted = upstream.keys.failed(&mut self.permit, failure, now);
        if noted.cooldown.is_some() {
            metrics.key_cooldown(&upstream.name, reason.as_str());
        }
        if noted.report {
            // Requests may succeed with other keys, so this line may be the only sign; and only the operator can repair the key.
            report_outage(&upstream.name, self.number(), reason, noted.cooldown);
        }
        noted.cooldown
    }
}

/// Tells the operator that a key cannot be used.
fn report_outage(upstream: &str, key: Option<usize>, reason: CooldownReason, cooldown: Option<Duration>) {
    let why = reason.as_str();
    match cooldown {
        Some(span) => tracing::warn!(
            %upstream, key, why, cooldown = ?span,
            "upstream key disabled for {span:?}; then one request probes it"
        ),
        None => tracing::warn!(
            %upstream, key, why,
            "upstream key does not work; it stays in use, because nothing else is available"
        ),
    }
}
