//! A finished exchange: one value for the log, the metrics and the permits.

use std::time::Duration;

use http::{StatusCode, Version};

use super::{Attempt, Queueing, Record, TunnelTally, class};
use crate::{
    fault::Outcome,
    openai::{FinishReason, Usage, gen_ai_operation},
    telemetry::{
        access::{AccessLine, AttemptLine, TunnelLine},
        history::History,
        metrics::sample::{RequestResult, Sample, Tokens},
    },
};

/// Code that the log shows for an upstream error without a code of its own.
const UPSTREAM_ERROR: &str = "upstream_error";

/// Where the token counts of the log come from.
const REPORTED: &str = "reported";
const ESTIMATED: &str = "estimated";

/// A finished exchange.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'e> {
    /// The record of the exchange.
    pub record: &'e Record,
    /// How it ended.
    pub outcome: Outcome,
    /// Duration of the exchange.
    pub total: Duration,
}

impl Finished<'_> {
    /// The token usage, if the upstream reported it.
    pub fn usage(&self) -> Option<Usage> {
        self.record.reading.usage
    }

    /// The values that the metrics count. `is_recorded`: its trace can be looked up.
    pub(super) fn sample(&self, is_recorded: bool) -> Sample<'_> {
        let Self { record, outcome, total } = self;
        let attempts = &record.attempts;
        let last = attempts.last();
        let first = attempts.iter().next().filter(|_| attempts.count() > 1);
        Sample {
            route: record.route.as_ref(),
            upstream: last.map(|attempt| &attempt.upstream),
            caller: record.caller.as_deref().map(|caller| &caller.name),
            model: record.model.as_deref(),
            operation: last.and_then(|_| gen_ai_operation(record.endpoint)),
            status: record.status.map_or("none", class),
            outcome: *outcome,
            result: RequestResult::of(record.status, *outcome),
            knows_model: last.and_then(|attempt| attempt.status).is_some_and(|status| status.is_success()),
            attempts: attempts.count(),
            first_upstream: first.map(|attempt| &attempt.upstream),
            total: *total,
            first_byte: record.first_byte,
            first_token: record.first_token,
            overhead: record.overhead,
            gaps: &record.tally.gaps,
            bytes_in: record.upload.bytes(),
            bytes_out: record.tally.bytes,
            turns: record.tunnel.as_deref().map(|tunnel| tunnel.turns),
            tokens: self.usage().as_ref().map(tokens_of),
            cost: record.charge.as_deref().and_then(|charge| charge.cost.as_ref()),
            finish_reason: record.reading.finish_reason,
            sdk: record.sdk,
            trace: is_recorded.then(|| record.trace.sent_trace_id()),
            time: record.time,
        }
    }

    /// The line for the access log.
    pub(super) fn line(&self) -> AccessLine<'_> {
        let Self { record, outcome, total } = *self;
        let attempt = record.attempts.last();
        let usage = self.usage();
        let charge = record.charge.as_deref();
        let [tokens_in, tokens_out] = self.tokens();
        let is_estimated = charge.is_some_and(|charge| charge.is_estimated);
        let queueing = record.joined_queue();
        AccessLine {
            time: record.time,
            request_id: record.request_id.as_str(),
            trace_id: Some(record.trace.trace_id()),
            trace_name: record.trace.trace_name(),
            w3c_trace_id: record.trace.w3c_trace_id(),
            caller_request_id: record.caller_ids.as_deref().and_then(|ids| ids.request_id.as_deref()),
            client_request_id: record.caller_ids.as_deref().and_then(|ids| ids.client_request_id.as_deref()),
            upstream_request_id: record.upstream_request_id.as_deref(),
            client: record.client,
            caller: record.caller.as_deref().map(|caller| &*caller.name),
            group: record.caller.as_deref().and_then(|caller| caller.group.as_deref()),
            tags: record.caller.as_deref().map_or(&[], |caller| &caller.tags),
            route: record.route.as_deref(),
            upstream: attempt.map(|attempt| &*attempt.upstream),
            target: attempt.map(|attempt| &*attempt.target),
            protocol: protocol(record.version),
            tls: record.tls,
            method: record.method.as_str(),
            path: &record.path,
            model: record.model.as_deref(),
            response_model: record.reading.model.as_deref(),
            stream: record.stream,
            status: record.status.map(|status| status.as_u16()),
            who: outcome.who.as_str(),
            phase: outcome.phase.as_str(),
            attempts: self.attempts(),
            reused: attempt.and_then(|attempt| attempt.reused),
            connect: attempt.and_then(|attempt| attempt.connect),
            first_byte: record.first_byte,
            first_token: record.first_token,
            total,
            max_gap: record.tally.max_gap,
            overhead: record.overhead,
            bytes_in: record.upload.bytes(),
            bytes_out: record.tally.bytes,
            frames: record.tally.frames,
            events: record.tally.events,
            tokens_in,
            tokens_out,
            tokens_cached_input: usage.and_then(|usage| usage.cached_input),
            tokens_cache_write: usage.and_then(|usage| usage.cache_write),
            tokens_reasoning: usage.and_then(|usage| usage.reasoning),
            usage: if is_estimated { Some(ESTIMATED) } else { usage.map(|_| REPORTED) },
            cost: charge.and_then(|charge| charge.cost.as_ref()).map(|cost| cost.amount),
            queue: queueing.map(Queueing::waited),
            queue_position: queueing.and_then(Queueing::position).map(|position| position as u64),
            limit: record.limit.as_deref(),
            tunnel: record.tunnel.as_deref().map(tunnel_line),
            finish_reason: record.reading.finish_reason.map(FinishReason::as_str),
            error: outcome.fault.or_else(|| self.upstream_error()),
            cause: record.cause.as_deref(),
        }
    }

    /// The tokens of input and output: as reported, else as estimated for limits and costs.
    fn tokens(&self) -> [Option<u64>; 2] {
        let charge = self.record.charge.as_deref().filter(|charge| charge.is_estimated);
        match charge.map(|charge| charge.tokens) {
            Some(tokens) => [Some(tokens.all_input()), Some(tokens.output)],
            None => self.usage().map_or([None, None], |usage| [usage.input, usage.output]),
        }
    }

    /// Keeps the exchange in `history`, with all of its attempts.
    #[cold]
    pub(super) fn keep(&self, history: &History, failed: bool) {
        let attempts = self.record.attempts.iter().map(|attempt| self.line_of(attempt)).collect();
        let mut line = Vec::new();
        AccessLine { attempts, ..self.line() }.write_json(&mut line);
        history.push(&line, failed);
    }

    /// Whether something went wrong that an operator may look for later: a known client's request failed, or needed a further attempt.
    pub(super) fn went_wrong(&self) -> bool {
        let failed = self.outcome.fault.is_some() || self.upstream_error().is_some();
        (failed && self.record.caller.is_some()) || self.record.attempts.count() > 1
    }

    /// The attempts for the log; empty when a single attempt succeeded, since the line itself describes it.
    fn attempts(&self) -> Vec<AttemptLine<'_>> {
        let attempts = &self.record.attempts;
        // A failed attempt has its own end; the attempt whose response the client received ends with the exchange.
        let any_failed = attempts.iter().any(|attempt| attempt.end.is_some());
        if attempts.count() <= 1 && !any_failed {
            return Vec::new();
        }
        attempts.iter().map(|attempt| self.line_of(attempt)).collect()
    }

    fn line_of<'a>(&self, attempt: &'a Attempt) -> AttemptLine<'a> {
        AttemptLine {
            upstream: &attempt.upstream,
            target: &attempt.target,
            key: attempt.key,
            model: attempt.model.as_deref(),
            status: attempt.status.map(|status| status.as_u16()),
            code: attempt.code.as_deref(),
            result: attempt.result,
            start: attempt.start.saturating_duration_since(self.record.start),
            connect: attempt.connect,
            head: attempt.head,
            first_token: attempt.first_token,
            total: attempt.end.unwrap_or_else(|| attempt.start.elapsed()),
        }
    }

    /// The code of a forwarded upstream error: the upstream's own code, or [`UPSTREAM_ERROR`].
    pub(super) fn upstream_error(&self) -> Option<&str> {
        if let Some(tunnel) = &self.record.tunnel {
            return tunnel.error.as_deref();
        }
        let attempt = self.record.attempts.last()?;
        // A web page is accepted even so, because it would not see the refusal.
        let is_accepted = self.record.status == Some(StatusCode::SWITCHING_PROTOCOLS);
        let status = if is_accepted { attempt.status } else { self.record.status };
        status.filter(|status| status.as_u16() >= 400)?;
        Some(attempt.code.as_deref().unwrap_or(UPSTREAM_ERROR))
    }
}

/// The tokens that the metrics count.
fn tokens_of(usage: &Usage) -> Tokens {
    Tokens {
        input: usage.input.unwrap_or(0),
        output: usage.output.unwrap_or(0),
        cached_input: usage.cached_input.unwrap_or(0),
        cache_write: usage.cache_write.unwrap_or(0),
        reasoning: usage.reasoning.unwrap_or(0),
    }
}

fn tunnel_line(tunnel: &TunnelTally) -> TunnelLine {
    TunnelLine {
        turns: tunnel.turns,
        turns_failed: tunnel.failed_turns,
        frames_in: tunnel.frames_in,
        close_code: tunnel.close_code,
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
