//! A finished request, as the metrics count it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;

use super::{histogram::Gaps, sdk::Sdk};
use crate::{
    fault::{Outcome, Phase, Who},
    money::Cost,
    openai::FinishReason,
};

/// A finished request. It borrows, because most of it is compared with labels that are there already, and then forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// `[route.NAME]`
    pub route: Option<&'a Arc<str>>,
    /// `[upstream.NAME]` of the last attempt.
    pub upstream: Option<&'a Arc<str>>,
    /// `[client.NAME]`
    pub caller: Option<&'a Arc<str>>,
    /// The model that the client named.
    pub model: Option<&'a str>,
    /// The kind of operation that a model did, as OpenTelemetry's conventions name it; `None`: no model was needed.
    pub operation: Option<&'static str>,
    /// `2xx`, …, or `none` when the client got no response.
    pub status: &'static str,
    /// How the request ended.
    pub outcome: Outcome,
    /// The same for those who only want to know whether it went well.
    pub result: RequestResult,
    /// Whether the upstream of the last attempt answered with a success, and so knows the model.
    pub knows_model: bool,
    /// Number of attempts.
    pub attempts: u32,
    /// Upstream of the first attempt, if that was not the last.
    pub first_upstream: Option<&'a Arc<str>>,
    /// Time from the request to the end.
    pub total: Duration,
    /// Time from the request to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// Time from the request to the first content of a stream.
    pub first_token: Option<Duration>,
    /// Time that the gateway itself added.
    pub overhead: Option<Duration>,
    /// Times between frames.
    pub gaps: &'a Gaps,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Turns of a WebSocket connection; `None` for any other exchange.
    pub turns: Option<u64>,
    /// Tokens, if the upstream reported them.
    pub tokens: Option<Tokens>,
    /// What the request has cost, where tokens have prices.
    pub cost: Option<&'a Cost>,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// The client's SDK.
    pub sdk: Sdk,
    /// The trace that the request belongs to, if it is recorded: exported, or by the client where nothing is exported.
    pub trace: Option<&'a str>,
    /// When the request arrived.
    pub time: SystemTime,
}

/// Whether a request went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestResult {
    /// The client got the whole response, which is no error.
    Ok,
    /// The client got a 429.
    Limited,
    /// The client got another 4xx.
    Rejected,
    /// The client got a 5xx, no response, or part of one.
    Failed,
    /// The client left before its response was complete.
    Left,
}

/// Tokens, as reported by the upstream.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tokens {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Of `input`, those that came from the provider's cache.
    pub cached_input: u64,
    /// Of `input`, those that were written to it.
    pub cache_write: u64,
    /// Of `output`, those of reasoning.
    pub reasoning: u64,
}

/// A [`Sample`] that owns what it names.
#[derive(Debug)]
pub(super) struct OwnedSample {
    route: Option<Arc<str>>,
    upstream: Option<Arc<str>>,
    caller: Option<Arc<str>>,
    model: Option<Box<str>>,
    first_upstream: Option<Arc<str>>,
    gaps: Gaps,
    cost: Option<Box<Cost>>,
    trace: Option<Box<str>>,
    /// The rest; its references are not used.
    plain: Sample<'static>,
}

/// Stands for what [`OwnedSample`] owns itself.
static NO_GAPS: Gaps = Gaps::NONE;

impl Sample<'_> {
    /// Whether a response that had begun was not completed, and not because of its client.
    pub fn is_broken(&self) -> bool {
        self.outcome.phase == Phase::Stream
            && self.outcome.who != Who::Downstream
            && self.outcome.fault.is_some()
    }

    /// Whether an attempt had failed, and the client got a whole response even so.
    pub fn is_rescued(&self) -> bool {
        self.attempts > 1 && self.result == RequestResult::Ok
    }

    /// Time per output token after the first one.
    pub fn per_token(&self) -> Option<Duration> {
        let further = self.tokens?.output.checked_sub(1).filter(|further| *further > 0)?;
        let streaming = self.total.checked_sub(self.first_token?)?;
        Some(streaming / u32::try_from(further).unwrap_or(u32::MAX))
    }

    /// The kind of error, where there is one: its code, or the class of the status.
    pub fn error(&self) -> Option<&'static str> {
        if self.result == RequestResult::Ok {
            return None;
        }
        self.outcome.fault.or(Some(self.status))
    }
}

impl RequestResult {
    /// All results, in the order of their indexes.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Limited, Self::Rejected, Self::Failed, Self::Left];

    /// The result of a request that ended so, and whose client got this status.
    pub fn of(status: Option<StatusCode>, outcome: Outcome) -> Self {
        let left = outcome.who == Who::Downstream;
        match status.map(|status| status.as_u16()) {
            Some(429) => Self::Limited,
            Some(400..500) => Self::Rejected,
            Some(0..400) if outcome.fault.is_none() => Self::Ok,
            Some(0..400) | None if left => Self::Left,
            _ => Self::Failed,
        }
    }

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }

    /// Its index in [`RequestResult::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl Tokens {
    /// The types of tokens, as the labels have them, and the number of each.
    pub fn by_type(&self) -> [(&'static str, u64); 5] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cached_input", self.cached_input),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
        ]
    }

    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.input == 0 && self.output == 0
    }

    /// Adds other tokens.
    pub fn merge(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cached_input += other.cached_input;
        self.cache_write += other.cache_write;
        self.reasoning += other.reasoning;
    }
}

impl OwnedSample {
    pub(super) fn of(sample: &Sample<'_>) -> Self {
        Self {
            route: sample.route.cloned(),
            upstream: sample.upstream.cloned(),
            caller: sample.caller.cloned(),
            model: sample.model.map(Into::into),
            first_upstream: sample.first_upstream.cloned(),
            gaps: *sample.gaps,
            cost: sample.cost.cloned().map(Box::new),
            trace: sample.trace.map(Into::into),
            plain: Sample {
                route: None,
                upstream: None,
                caller: None,
                model: None,
                first_upstream: None,
                gaps: &NO_GAPS,
                cost: None,
                trace: None,
                ..*sample
            },
        }
    }

    pub(super) fn borrow(&self) -> Sample<'_> {
        Sample {
            route: self.route.as_ref(),
            upstream: self.upstream.as_ref(),
            caller: self.caller.as_ref(),
            model: self.model.as_deref(),
            first_upstream: self.first_upstream.as_ref(),
            gaps: &self.gaps,
            cost: self.cost.as_deref(),
            trace: self.trace.as_deref(),
            ..self.plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_follows_from_the_status_and_who_ended_it() {
        let left = Outcome::left(Phase::Stream);
        let broken = Outcome { who: Who::Upstream, phase: Phase::Stream, fault: Some("upstream_truncated") };
        for (status, outcome, result) in [
            (Some(200), Outcome::COMPLETE, RequestResult::Ok),
            (Some(200), left, RequestResult::Left),
            (None, left, RequestResult::Left),
            (Some(200), broken, RequestResult::Failed),
            (None, broken, RequestResult::Failed),
            (Some(429), Outcome::COMPLETE, RequestResult::Limited),
            (Some(404), Outcome::COMPLETE, RequestResult::Rejected),
            (Some(503), Outcome::COMPLETE, RequestResult::Failed),
        ] {
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            assert_eq!(RequestResult::of(status, outcome), result, "{status:?} {outcome:?}");
        }
        for (index, result) in RequestResult::ALL.into_iter().enumerate() {
            assert_eq!(result.index(), index);
        }
    }
}
