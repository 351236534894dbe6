//! What limits have granted to an exchange, and how what it uses becomes a charge.
//!
//! Tokens are reserved as expected when a request is admitted, charged while a response outruns that, and corrected at its end. All of it is
//! given back if the exchange ends without a response.

use std::sync::Arc;

use super::{Charge, Finished, RequestPrices};
use crate::{
    fault::Phase,
    limit::{
        Admitted, Applied, AverageIndex, Demand, Estimates, Lesson, Moment, PricedTokens, Refused,
        RequestSize, Teaches, TokenCount,
    },
    openai::Usage,
};

/// Bytes of a response that is no stream for each token of output that nobody has reported.
const BYTES_A_TOKEN: u64 = 4;

/// A stream is charged each time that it has used so many tokens more.
const STEP: f32 = 256.0;

/// The account of one exchange with the limits that apply to it.
#[derive(Debug)]
pub struct Accounting {
    kind: RequestKind,
    /// What the request will probably use.
    expected: TokenCount,
    /// What tokens cost; `None`: nothing has a price.
    prices: Option<Box<RequestPrices>>,
    /// What was granted at admission, and what was granted for the model that answers: at most two.
    grants: Vec<Admitted>,
    /// Events of a stream after which it is charged for the next time.
    step: u64,
}

/// The requests that a request is like, by what they use.
#[derive(Debug)]
pub struct RequestKind {
    /// What earlier requests used.
    pub estimates: Arc<Estimates>,
    /// Where in there requests like it are.
    pub like: AverageIndex,
    /// What its tokens are estimated from.
    pub size: RequestSize,
    /// Whether the operation runs a model. One that does not may report what an earlier request has used.
    pub runs_model: bool,
    /// Whether the request itself uses tokens, and they are estimated as long as nobody has reported them. That of a WebSocket connection does not:
    /// its messages do.
    pub uses_tokens: bool,
}

impl RequestKind {
    /// The tokens that such requests use on average; 1 if they use none.
    pub fn usual(&self) -> u64 {
        if !self.uses_tokens {
            return 1;
        }
        self.estimates.usual(self.like, self.size)
    }

    /// Learns what a request has `used`, if its response was whole.
    pub(super) fn learn(&self, finished: &Finished<'_>, used: TokenCount) {
        if self.uses_tokens && finished.outcome.phase == Phase::Done {
            let lesson = Lesson { size: self.size, events: finished.record.tally.events, used };
            self.estimates.learn(self.like, lesson);
        }
    }

    fn expected(&self) -> TokenCount {
        if !self.runs_model || !self.uses_tokens {
            return TokenCount::default();
        }
        self.estimates.expected(self.like, self.size)
    }

    /// What is expected when the whole request has passed, of which less was known before if its body was not read.
    fn expected_at_end(&self, finished: &Finished<'_>) -> TokenCount {
        let bytes = finished.record.upload.bytes();
        if self.size.teaches != Teaches::No || self.size.attachments > 0 || bytes <= self.size.text {
            return self.expected();
        }
        self.estimates.expected(self.like, RequestSize { text: bytes, ..self.size })
    }
}

impl Accounting {
    /// Opens the account of a request of this `kind`, to which nothing is granted yet.
    pub fn new(kind: RequestKind) -> Self {
        let expected = kind.expected();
        let per_event = kind.estimates.tokens_per_event(kind.like);
        #[expect(clippy::cast_sign_loss, reason = "both are positive")]
        let step = (STEP / per_event).ceil() as u64;
        Self { kind, expected, prices: None, grants: Vec::new(), step }
    }

    /// Gives tokens these prices.
    #[must_use]
    pub fn priced(self, prices: RequestPrices) -> Self {
        Self { prices: Some(Box::new(prices)), ..self }
    }

    /// What the request will probably use, if an upstream is asked for the model `sent`; `None`: for the one that the client asks for.
    pub fn demand(&self, sent: Option<&str>) -> Demand {
        let prices = self.prices.as_deref();
        let cost = prices.map(|prices| prices.cost_of(sent, self.expected)).unwrap_or_default();
        Demand { tokens: self.expected, cost }
    }

    /// Notes that the model `sent` answers; `None`: the one that the client asks for.
    pub fn answered_by(&mut self, sent: Option<&str>) {
        if let Some(prices) = &mut self.prices {
            prices.ask_for(sent);
        }
    }

    /// Adds what limits have granted.
    pub fn add(&mut self, granted: Admitted) {
        self.grants.push(granted);
    }

    /// Gives back all that was granted, while the request waits for more than that.
    pub fn give_back(&mut self) {
        self.grants.iter_mut().for_each(Admitted::give_back);
        self.grants.clear();
    }

    /// The limits that count the exchange.
    pub fn limits(&self) -> impl Iterator<Item = &Applied> {
        self.grants.iter().flat_map(Admitted::limits)
    }

    /// Events of a stream between two charges.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Charges a stream that goes on after so many `events`, where that is more than what was reserved.
    pub(super) fn charge_events(&mut self, events: u64) {
        let output = self.output_of(events);
        self.charge(TokenCount { output, ..self.expected });
    }

    /// Charges `used`, where that is more than what was reserved and charged so far.
    fn charge(&mut self, used: TokenCount) {
        let cost = self.prices.as_deref().map(|prices| prices.cost_of(None, used)).unwrap_or_default();
        self.charge_demand(Demand { tokens: used, cost });
    }

    fn charge_demand(&mut self, used: Demand) {
        let moment = now();
        for granted in &mut self.grants {
            granted.charge_so_far(used, moment);
        }
    }

    /// Charges what the turns of a WebSocket connection have used so far. `model` is the one that answers.
    pub fn charge_turns(&mut self, reported: Option<&Usage>, unreported: u64, model: Option<&str>) {
        let used = Used::of_turns(reported, unreported).tokens;
        let cost = self.prices.as_deref_mut().map(|prices| prices.cost_of_turns(model, &used));
        self.charge_demand(Demand { tokens: used.counted(), cost: cost.unwrap_or_default() });
    }

    /// The first limit on tokens or cost of which nothing is left.
    pub fn exhausted(&self) -> Option<Refused> {
        let moment = now();
        self.grants.iter().find_map(|granted| granted.exhausted(moment))
    }

    /// Makes what was reserved into what the exchange has used: the reported usage, else what was seen. A request that no upstream has
    /// accepted has used nothing, and all of it is given back.
    pub(super) fn settle(mut self, finished: &Finished<'_>) -> Option<Box<Charge>> {
        if !is_accepted(finished) {
            self.give_back();
            return None;
        }
        let used = self.used(finished);
        let tokens = used.tokens.counted();
        let is_estimated = used.source == Source::Estimated;
        let prices = self.prices.filter(|_| used.source != Source::Nothing);
        let cost = prices.and_then(|prices| prices.cost(finished.record, &used.tokens, is_estimated));
        let amount = cost.as_ref().map(|cost| cost.amount).unwrap_or_default();
        let moment = now();
        self.grants.iter_mut().for_each(|granted| granted.end(Demand { tokens, cost: amount }, moment));
        Some(Box::new(Charge { tokens, is_estimated, cost }))
    }

    fn used(&self, finished: &Finished<'_>) -> Used {
        let record = finished.record;
        if !self.kind.runs_model {
            return Used::NOTHING;
        }
        if let Some(tunnel) = &record.tunnel {
            return Used::of_turns(finished.usage().as_ref(), tunnel.unreported_tokens);
        }
        if let Some(usage) = finished.usage() {
            let reported = PricedTokens::from(usage.classes());
            let is_whole = finished.outcome.phase == Phase::Done;
            if !is_whole && let Some(events) = record.tally.events {
                // What a provider reports at the beginning of a stream is not what it has sent since.
                return Used::at_least(reported, self.output_of(events));
            }
            self.kind.learn(finished, reported.counted());
            // Audio that is charged by its length has no tokens.
            let is_known = usage.input.is_some() || usage.output.is_some();
            return if is_known { Used::reported(reported) } else { Used::NOTHING };
        }
        let is_error = record.status.is_some_and(|status| status.as_u16() >= 400);
        if !self.kind.uses_tokens || is_error {
            return Used::NOTHING;
        }
        let output = match record.tally.events {
            Some(events) => self.output_of(events),
            // Not all bytes are text: no more is charged for them than requests of this kind usually use.
            None => self.expected.output.min(record.tally.bytes / BYTES_A_TOKEN),
        };
        let input = self.kind.expected_at_end(finished).input.max(self.expected.input);
        Used { tokens: TokenCount { input, output, ..self.expected }.into(), source: Source::Estimated }
    }

    /// The tokens that so many events probably have.
    #[expect(clippy::cast_sign_loss, reason = "both factors are positive")]
    fn output_of(&self, events: u64) -> u64 {
        let per_event = self.kind.estimates.tokens_per_event(self.kind.like);
        (events as f32 * per_event).ceil() as u64
    }
}

/// Whether an upstream has accepted the request. One that has failed, or whose own limit is reached, has not.
fn is_accepted(finished: &Finished<'_>) -> bool {
    let record = finished.record;
    let status = record.attempts.last().and_then(|attempt| attempt.status);
    let has_refused = status.is_some_and(|status| status.is_server_error() || status.as_u16() == 429);
    record.first_byte.is_some() && !has_refused
}

/// What an exchange has used, and how that is known.
struct Used {
    tokens: PricedTokens,
    source: Source,
}

/// How it is known what an exchange has used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// There is nothing to know.
    Nothing,
    /// The upstream has reported it.
    Reported,
    /// The gateway has estimated it, or a part of it.
    Estimated,
}

impl Used {
    const NOTHING: Self = Self { tokens: PricedTokens::NONE, source: Source::Nothing };

    fn reported(tokens: PricedTokens) -> Self {
        Self { tokens, source: Source::Reported }
    }

    /// What was reported of the turns of a connection, and so many tokens of output that nobody has reported.
    fn of_turns(reported: Option<&Usage>, unreported: u64) -> Self {
        let tokens = reported.map(|usage| PricedTokens::from(usage.classes())).unwrap_or_default();
        let source = match (unreported, reported) {
            (1.., _) => Source::Estimated,
            (0, Some(_)) => Source::Reported,
            (0, None) => Source::Nothing,
        };
        Self { tokens: PricedTokens { output: tokens.output.saturating_add(unreported), ..tokens }, source }
    }

    /// What was reported, and of the output at least so much.
    fn at_least(reported: PricedTokens, output: u64) -> Self {
        let more = output.saturating_sub(reported.all_output());
        if more == 0 {
            return Self::reported(reported);
        }
        let output = reported.output.saturating_add(more);
        Self { tokens: PricedTokens { output, ..reported }, source: Source::Estimated }
    }
}

/// The tokens of a reported usage, in the classes of limits.
pub(super) fn counted(usage: &Usage) -> TokenCount {
    PricedTokens::from(usage.classes()).counted()
}

/// This moment, by the clocks that limits use.
pub fn now() -> Moment {
    Moment::now()
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        time::{Duration, Instant},
    };

    use http::{Method, StatusCode, Version};

    use super::*;
    use crate::{
        body::ConnectionState,
        exchange::{Attempt, Exchange, Load, Opening},
        fault::{ErrorForm, Fault, LanguageChoice, Outcome},
        limit::{Allowance, Counter, Likeness, Limit, Rate, Weights},
        openai::Usage,
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

    /// A limit of 10 requests and 10,000 tokens that nothing restores within a test.
    fn limit() -> Applied {
        let rate =
            |quantity| Some(Allowance::Rate(Rate::new(quantity, Duration::from_hours(1_000), quantity)));
        let limit = Arc::new(Limit {
            name: "team".into(),
            requests: rate(10),
            tokens: rate(10_000),
            cost: None,
            concurrent: Some(1),
            weights: Weights::default(),
            enforce: true,
            goes_on: false,
            queue: None,
        });
        Applied { counter: Arc::new(Counter::new(&limit)), limit }
    }

    fn kind() -> RequestKind {
        let estimates = Arc::<Estimates>::default();
        RequestKind {
            like: estimates.average_index(Likeness {
                client: "team",
                dialect: "chat_completions",
                model: "gpt",
            }),
            estimates,
            size: RequestSize::of_text(4_000),
            runs_model: true,
            uses_tokens: true,
        }
    }

    /// Requests and tokens that are used, and requests in flight.
    fn used(applied: &Applied) -> (u64, u64, u32) {
        let left = applied.counter.remaining(&applied.limit, now());
        let used = |left: Option<crate::limit::Left>| left.map_or(0, |left| left.quantity - left.remaining);
        (used(left.requests), used(left.tokens), applied.counter.in_flight())
    }

    /// An exchange that the limit has admitted, with a response head of this `status` if there is one.
    fn admitted(limit: &Applied, status: Option<u16>) -> Box<Exchange> {
        let (metrics, load) = (Arc::default(), Arc::default());
        let mut exchange = exchange(&metrics, &load);
        let mut accounting = Accounting::new(kind());
        let granted = Admitted::take(std::slice::from_ref(limit), accounting.demand(None), now()).unwrap();
        accounting.add(granted);
        exchange.open_account(accounting);
        exchange.begin_attempt(Attempt::new("openai".into(), "http://openai".into(), None, None));
        if let Some(status) = status {
            let status = StatusCode::from_u16(status).unwrap();
            exchange.head_received(status);
            exchange.record.status = Some(status);
        }
        exchange
    }

    fn usage(input: u64, output: u64) -> Option<Usage> {
        Some(Usage { input: Some(input), output: Some(output), ..Usage::default() })
    }

    #[test]
    fn what_is_expected_is_reserved_and_what_is_reported_is_charged() {
        let limit = limit();
        let mut exchange = admitted(&limit, Some(200));
        // 4,000 bytes are about 1,000 tokens.
        assert_eq!(used(&limit), (1, 1_256, 1));
        exchange.record.reading.usage = usage(900, 3_100);
        exchange.conclude(Outcome::COMPLETE);
        drop(exchange);
        assert_eq!(used(&limit), (1, 4_000, 0));
    }

    #[test]
    fn what_no_upstream_has_accepted_is_given_back() {
        for status in [None, Some(500), Some(503), Some(529), Some(429)] {
            let limit = limit();
            let mut exchange = admitted(&limit, status);
            exchange.fail(&Fault::Overloaded, |_| false);
            drop(exchange);
            assert_eq!(used(&limit), (0, 0, 0), "{status:?}");
        }
        // A client that leaves before anything has come is not charged either.
        let limit = limit();
        drop(admitted(&limit, None));
        assert_eq!(used(&limit), (0, 0, 0));
    }

    #[test]
    fn an_error_of_the_clients_own_counts_as_a_request_without_tokens() {
        let limit = limit();
        let mut exchange = admitted(&limit, Some(400));
        exchange.record.tally.bytes = 4_000;
        exchange.conclude(Outcome::COMPLETE);
        drop(exchange);
        assert_eq!(used(&limit), (1, 0, 0));
    }

    #[test]
    fn a_stream_that_outruns_its_estimate_is_charged_while_it_runs() {
        let limit = limit();
        let mut exchange = admitted(&limit, Some(200));
        exchange.events_passed(255);
        exchange.events_passed(256);
        assert_eq!(used(&limit).1, 1_256, "that much was reserved");
        exchange.events_passed(511);
        assert_eq!(used(&limit).1, 1_256, "no step is complete");
        exchange.events_passed(512);
        assert_eq!(used(&limit).1, 1_512);
        exchange.events_passed(5_000);
        assert_eq!(used(&limit).1, 6_000);
        // The client leaves: what has passed is charged.
        exchange.record.tally.events = Some(5_100);
        drop(exchange);
        assert_eq!(used(&limit), (1, 6_100, 0));
    }

    #[test]
    fn what_is_reported_at_the_beginning_of_a_broken_stream_is_not_all() {
        let limit = limit();
        let mut exchange = admitted(&limit, Some(200));
        exchange.handle.status.enter(Phase::Stream);
        exchange.record.reading.usage = usage(2_000, 1);
        exchange.record.tally.events = Some(300);
        drop(exchange);
        assert_eq!(used(&limit).1, 2_300);
    }

    #[test]
    fn zero_that_is_reported_is_zero() {
        let limit = limit();
        let mut exchange = admitted(&limit, Some(200));
        exchange.record.reading.usage = usage(0, 0);
        exchange.record.tally.events = Some(300);
        exchange.conclude(Outcome::COMPLETE);
        drop(exchange);
        assert_eq!(used(&limit), (1, 0, 0));
    }

    #[test]
    fn bytes_that_are_no_text_are_charged_as_requests_like_it_usually_are() {
        let limit = limit();
        let mut exchange = admitted(&limit, Some(200));
        exchange.record.tally.bytes = 1_000_000;
        exchange.conclude(Outcome::COMPLETE);
        drop(exchange);
        assert_eq!(used(&limit).1, 1_256);
    }
}
