//! A finished exchange as a trace.

use http::{StatusCode, Version};

use super::{Attempt, Finished, Queueing, class};
use crate::{
    fault::{Outcome, Who},
    openai::{FinishReason, gen_ai_operation},
    telemetry::trace::{AttemptView, Chance, Mishap, TraceView, Tracer},
};

/// The operation of a WebSocket connection that is no request for a response: a session in which several kinds of content pass.
const SESSION: &str = "generate_content";

impl Finished<'_> {
    /// Exports the exchange, if `tracer` chooses it. Returns whether it was exported.
    pub(super) fn export(&self, tracer: &Tracer) -> bool {
        // Before anything else is put together: most exchanges may be left out.
        if !tracer.keeps(&self.chance()) {
            return false;
        }
        let view = self.view(tracer);
        let attempts = self.record.attempts.iter().map(|attempt| self.attempt(tracer, &view, attempt));
        tracer.export(&view, attempts)
    }

    fn chance(&self) -> Chance<'_> {
        let Self { record, total, .. } = self;
        Chance {
            trace: &record.trace,
            end: record.start + *total,
            total: *total,
            mishap: self.mishap(),
            spans: 1 + record.attempts.iter().count() as u64,
        }
    }

    fn view<'a>(&'a self, tracer: &'a Tracer) -> TraceView<'a> {
        let Self { record, outcome, total } = self;
        let route = record.route.as_deref();
        let caller = record.caller.as_deref();
        let tunnel = record.tunnel.as_deref();
        let has_left = *outcome == Outcome::left(outcome.phase);
        let error = outcome.fault.filter(|_| !has_left).or_else(|| self.upstream_error());
        TraceView {
            time: record.time,
            total: *total,
            trace: &record.trace,
            request_id: record.request_id.as_str(),
            client: record.client,
            caller: caller.map(|caller| &*caller.name),
            group: caller.and_then(|caller| caller.group.as_deref()),
            tags: caller.map_or(&[], |caller| &caller.tags),
            route,
            route_path: route.and_then(|name| tracer.route_path(name)),
            method: record.method.as_str(),
            path: &record.path,
            tls: record.tls,
            version: protocol_version(record.version),
            status: record.status.map(|status| status.as_u16()),
            who: outcome.who.as_str(),
            phase: outcome.phase.as_str(),
            error,
            is_error: self.is_error(),
            attempts: record.attempts.count(),
            queue: record.joined_queue().map(Queueing::waited),
            queue_position: record
                .joined_queue()
                .and_then(Queueing::position)
                .map(|position| position as u64),
            bytes_in: record.upload.bytes(),
            bytes_out: record.tally.bytes,
            limit: record.limit.as_deref(),
            model: record.model.as_deref(),
            response_model: record.reading.model.as_deref(),
            operation: gen_ai_operation(record.endpoint).or_else(|| tunnel.map(|_| SESSION)),
            stream: record.stream,
            finish_reason: record.reading.finish_reason.map(FinishReason::as_str),
            usage: self.usage(),
            cost: record.charge.as_deref().and_then(|charge| charge.cost.as_ref()),
            last_frame: record.tally.last_frame().map(|last| last.saturating_duration_since(record.start)),
            turns: tunnel.map(|tunnel| tunnel.turns),
        }
    }

    fn attempt<'a>(
        &'a self,
        tracer: &'a Tracer,
        view: &TraceView<'a>,
        attempt: &'a Attempt,
    ) -> AttemptView<'a> {
        let start = attempt.start.saturating_duration_since(self.record.start);
        // The last attempt ends with the exchange, unless it failed.
        let is_answer = attempt.end.is_none();
        let error = match (is_answer, attempt.end) {
            (true, _) => attempt.code.as_deref().or_else(|| error_of_answer(attempt, view)),
            (false, _) => attempt.code.as_deref().or(attempt.result),
        };
        AttemptView {
            number: attempt.number,
            upstream: &attempt.upstream,
            url: &attempt.target,
            target: tracer.target(&attempt.target),
            key: attempt.key,
            model: attempt.model.as_deref(),
            start,
            connect: attempt.connect,
            reused: attempt.reused,
            head: attempt.head,
            first_token: attempt.first_token,
            total: attempt.end.unwrap_or_else(|| self.total.saturating_sub(start)),
            status: attempt.status.map(|status| status.as_u16()),
            error,
            is_answer,
        }
    }

    /// Whether the exchange failed by the rules for servers: a status below 500 is no failure of theirs, and neither is a client that leaves.
    fn is_error(&self) -> bool {
        match self.record.status {
            Some(status) if status.is_server_error() => true,
            Some(status) if status.is_client_error() => false,
            _ => self.outcome.fault.is_some() && self.outcome.who != Who::Downstream,
        }
    }

    /// What went wrong at an upstream or in the gateway. A status below 500 without any attempt is nothing: anybody can cause it at any rate.
    fn mishap(&self) -> Option<Mishap> {
        let Self { record, outcome, .. } = self;
        if record.attempts.count() == 0 {
            return self.is_error().then_some(Mishap::Refused);
        }
        let is_failure = |status: StatusCode| status.as_u16() >= 400;
        let any_failed = record.attempts.iter().any(|attempt| attempt.end.is_some());
        let went_wrong = outcome.fault.is_some() || record.status.is_some_and(is_failure);
        (any_failed || went_wrong || self.is_error()).then_some(Mishap::Failed)
    }
}

/// The version as OpenTelemetry writes it (`network.protocol.version`).
fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// Why the attempt that went on to the end has failed, if it has.
fn error_of_answer<'a>(attempt: &'a Attempt, view: &TraceView<'a>) -> Option<&'a str> {
    match attempt.status {
        Some(status) if status.is_client_error() || status.is_server_error() => {
            view.error.or_else(|| Some(class(status)))
        }
        _ => view.error.filter(|_| view.is_error),
    }
}
