//! What is measured of requests: by route, by client, by model, and what they cost.

use std::time::Duration;

use super::{
    exemplar::{Exemplar, Exemplars},
    histogram::Total,
    sample::{RequestResult, Sample, Tokens},
    scale::Scale,
};
use crate::{
    money::{Cost, Money},
    openai::FinishReason,
};

/// Kinds of errors that a combination tells apart.
pub const MAX_ERRORS: usize = 4;

/// The measurements of exchanges.
#[derive(Debug, Default, Clone)]
pub struct Measures {
    /// Time from the request to the end.
    pub total: Total,
    /// Exemplars of `total`.
    pub exemplars: Exemplars,
    /// Time from the request to the upstream's response head.
    pub first_byte: Total,
    /// Time from the request to the first content of a stream.
    pub first_token: Total,
    /// Time that the gateway itself added.
    pub overhead: Total,
    /// Time between two frames of a response.
    pub gaps: Total,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Attempts beside the first ones.
    pub retries: u64,
    /// WebSocket connections that have ended.
    pub tunnels: u64,
    /// Turns on them: responses of the model.
    pub turns: u64,
}

/// What a client used.
#[derive(Debug, Default, Clone, Copy)]
pub struct CallerMeasures {
    /// Requests, in the order of [`RequestResult::ALL`].
    pub results: [u64; RequestResult::ALL.len()],
    /// Tokens, as reported by the upstream.
    pub tokens: Tokens,
}

/// Measurements of the requests for one model.
#[derive(Debug, Clone, Default)]
pub struct ModelMeasures {
    /// Requests, in the order of [`RequestResult::ALL`].
    pub results: [u64; RequestResult::ALL.len()],
    /// Time from the request to the end, of those that went well.
    pub duration: Total,
    /// The same of those that did not, by kind of error; at most [`MAX_ERRORS`], and one for the others.
    pub errors: Vec<(&'static str, Total)>,
    /// Time from the request to the first content of a stream.
    pub first_token: Total,
    /// Exemplars of `first_token`.
    pub exemplars: Exemplars,
    /// Time per output token after the first one.
    pub per_token: Total,
    /// Tokens.
    pub tokens: Tokens,
    /// What they have cost, in the currency of the last one that had a cost. The operator's live page shows it.
    pub cost: Option<Box<Cost>>,
    /// Responses by the reason why the model stopped, in the order of [`FinishReason::ALL`].
    pub finish_reasons: [u64; FinishReason::ALL.len()],
}

/// Money, by how the tokens are known that it was for.
#[derive(Debug, Default, Clone, Copy)]
pub struct Costs {
    /// As the upstream reported them.
    pub reported: Money,
    /// As the gateway estimated them.
    pub estimated: Money,
}

impl Measures {
    pub(super) fn count(&mut self, exchange: &Sample<'_>) {
        self.total.observe(Scale::LONG, exchange.total);
        if let Some(exemplar) = exemplar(exchange, exchange.total) {
            self.exemplars.keep(Scale::LONG, exemplar);
        }
        if let Some(span) = exchange.first_byte {
            self.first_byte.observe(Scale::LONG, span);
        }
        if let Some(span) = exchange.first_token {
            self.first_token.observe(Scale::LONG, span);
        }
        if let Some(span) = exchange.overhead {
            self.overhead.observe(Scale::SHORT, span);
        }
        self.gaps.add(exchange.gaps);
        self.bytes_in += exchange.bytes_in;
        self.bytes_out += exchange.bytes_out;
        self.retries += u64::from(exchange.attempts.saturating_sub(1));
        if let Some(turns) = exchange.turns {
            self.tunnels += 1;
            self.turns += turns;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        self.exemplars.merge(&other.exemplars);
        self.first_byte.merge(&other.first_byte);
        self.first_token.merge(&other.first_token);
        self.overhead.merge(&other.overhead);
        self.gaps.merge(&other.gaps);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.retries += other.retries;
        self.tunnels += other.tunnels;
        self.turns += other.turns;
    }
}

impl CallerMeasures {
    pub(super) fn count(&mut self, exchange: &Sample<'_>) {
        if let Some(count) = self.results.get_mut(exchange.result.index()) {
            *count += 1;
        }
        if let Some(tokens) = &exchange.tokens {
            self.tokens.merge(tokens);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.results.iter_mut().zip(other.results).for_each(|(own, other)| *own += other);
        self.tokens.merge(&other.tokens);
    }
}

impl ModelMeasures {
    pub(super) fn count(&mut self, exchange: &Sample<'_>) {
        if let Some(count) = self.results.get_mut(exchange.result.index()) {
            *count += 1;
        }
        if let Some(tokens) = &exchange.tokens {
            self.tokens.merge(tokens);
        }
        if let Some(cost) = exchange.cost {
            self.add_cost(cost);
        }
        if let Some(count) = exchange.finish_reason.and_then(|why| self.finish_reasons.get_mut(why.index())) {
            *count += 1;
        }
        // A WebSocket connection has many responses, and no duration of one.
        if exchange.turns.is_some() {
            return;
        }
        let duration = match exchange.error() {
            None => &mut self.duration,
            Some(error) => self.of_error(error),
        };
        duration.observe(Scale::MODEL_DURATION, exchange.total);
        if let Some(span) = exchange.first_token {
            self.first_token.observe(Scale::FIRST_TOKEN, span);
            if let Some(exemplar) = exemplar(exchange, span) {
                self.exemplars.keep(Scale::FIRST_TOKEN, exemplar);
            }
        }
        if let Some(span) = exchange.per_token() {
            self.per_token.observe(Scale::OUTPUT_TOKEN, span);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add(&mut self.results, &other.results);
        self.duration.merge(&other.duration);
        for (error, total) in &other.errors {
            self.of_error(error).merge(total);
        }
        self.first_token.merge(&other.first_token);
        self.exemplars.merge(&other.exemplars);
        self.per_token.merge(&other.per_token);
        self.tokens.merge(&other.tokens);
        if let Some(cost) = &other.cost {
            self.add_cost(cost);
        }
        add(&mut self.finish_reasons, &other.finish_reasons);
    }

    /// Adds a cost. One in another currency begins a new sum.
    fn add_cost(&mut self, cost: &Cost) {
        match &mut self.cost {
            Some(sum) if sum.currency == cost.currency => sum.amount = sum.amount.saturating_add(cost.amount),
            sum => *sum = Some(Box::new(cost.clone())),
        }
    }

    /// The times of requests with that kind of error. `_OTHER` is OpenTelemetry's word for all other kinds.
    fn of_error(&mut self, error: &'static str) -> &mut Total {
        let known = self.errors.iter().position(|(known, _)| *known == error);
        let rest = if self.errors.len() < MAX_ERRORS { error } else { "_OTHER" };
        let at =
            known.or_else(|| self.errors.iter().position(|(known, _)| *known == rest)).unwrap_or_else(|| {
                self.errors.push((rest, Total::default()));
                self.errors.len() - 1
            });
        &mut self.errors[at].1
    }
}

impl Costs {
    /// The sums, with the metrics' label values.
    pub fn by_usage(&self) -> [(&'static str, Money); 2] {
        [("reported", self.reported), ("estimated", self.estimated)]
    }

    pub(super) fn add(&mut self, cost: &Cost) {
        let sum = if cost.is_estimated { &mut self.estimated } else { &mut self.reported };
        *sum = sum.saturating_add(cost.amount);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.reported = self.reported.saturating_add(other.reported);
        self.estimated = self.estimated.saturating_add(other.estimated);
    }
}

/// The exemplar of a request for one of its values.
fn exemplar(exchange: &Sample<'_>, span: Duration) -> Option<Exemplar> {
    let trace = exchange.trace?.as_bytes().try_into().ok()?;
    Some(Exemplar { trace, span, at: exchange.time + exchange.total })
}

fn add(own: &mut [u64], other: &[u64]) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_past_the_bound_are_counted_together() {
        const CODES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut measures = ModelMeasures::default();
        for code in CODES {
            measures.of_error(code).observe(Scale::LONG, Duration::ZERO);
        }
        assert_eq!(measures.errors.len(), MAX_ERRORS + 1);
        assert_eq!(measures.errors.last().map(|(code, total)| (*code, total.count())), Some(("_OTHER", 8)));
    }
}
