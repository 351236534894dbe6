//! Generated answers: endpoint, facts and plan → script.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    answers,
    endpoint::{Endpoint, Facts},
    events::{Dialect, Events, Stamp},
    plan::{At, Length, Plan},
    refusal::Refusal,
    script::{Event, Framing, Head, Script, Step},
    shared::Shared,
    upload::Upload,
};

/// Makes the script of one request.
pub(super) struct Generator<'a> {
    /// Of the request.
    pub(super) number: u64,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) facts: Facts,
    pub(super) plan: Plan,
    pub(super) shared: &'a Shared,
}

impl Generator<'_> {
    /// The script of an answer from `endpoint`.
    pub(super) fn script(&self, endpoint: &Endpoint, upload: &Upload) -> Script {
        if let Some(status) = self.plan.status.filter(|status| *status != StatusCode::OK) {
            return self.refusal(&Refusal::of(status));
        }
        if let Some(model) = self.missing_model(endpoint) {
            return self.refusal(&Refusal::no_model(model));
        }
        let body = match endpoint {
            Endpoint::Chat => return self.completion(Dialect::Chat),
            Endpoint::Completions => return self.completion(Dialect::Completions),
            Endpoint::Responses => return self.completion(Dialect::Responses),
            Endpoint::Messages => return self.completion(Dialect::Messages),
            Endpoint::Models => answers::models(self.created),
            Endpoint::Model(id) => answers::model(id, self.created),
            Endpoint::Embeddings => answers::embeddings(&self.facts, &self.plan),
            Endpoint::Files => answers::file(self.number, self.created, upload),
            Endpoint::Transcriptions => answers::transcription(&self.plan, upload),
        };
        self.whole(StatusCode::OK, body.to_string())
    }

    /// The script of a refusal, as slow, cut or stalled as the plan has it.
    pub(super) fn refusal(&self, refusal: &Refusal) -> Script {
        self.whole(refusal.status, refusal.body().to_string())
    }

    fn missing_model<'a>(&'a self, endpoint: &'a Endpoint) -> Option<&'a str> {
        let model = match endpoint {
            Endpoint::Model(id) => Some(id.as_str()),
            _ => self.facts.model.as_deref(),
        };
        model.filter(|model| model.starts_with("missing-"))
    }

    fn completion(&self, dialect: Dialect) -> Script {
        let model = self.facts.model.as_deref().unwrap_or("sim");
        let model = serde_json::to_string(model).unwrap_or_default();
        let stamp = Stamp { number: self.number, model, created: self.created };
        if !self.facts.stream {
            return self.whole(StatusCode::OK, answers::completion(dialect, &stamp, &self.plan));
        }
        let framing = if self.plan.length == Length::Close { Framing::Close } else { Framing::Chunked };
        let events = Events::new(dialect, &self.facts, stamp, &self.plan, self.shared.pace);
        self.sent(Head { framing, ..Head::event_stream() }, Step::Events(Box::new(events)))
    }

    fn whole(&self, status: StatusCode, body: String) -> Script {
        let framing = match self.plan.length {
            Length::Auto if self.plan.trailers => Framing::Chunked,
            Length::Auto | Length::Known => Framing::Known(body.len() as u64),
            Length::Chunked => Framing::Chunked,
            Length::Close => Framing::Close,
        };
        self.sent(Head { framing, ..Head::json(status, body.len()) }, Step::Send(Bytes::from(body)))
    }

    /// The way an answer is sent: waits, marks, trailers.
    fn sent(&self, mut head: Head, body: Step) -> Script {
        let plan = &self.plan;
        let mut steps = Vec::with_capacity(5);
        if !plan.delay.is_zero() {
            steps.push(Step::Wait(plan.delay));
        }
        if plan.cut == Some(At::Head) {
            steps.push(Step::Cut(plan.by));
        }
        put_usual_headers(&mut head.headers, self.number);
        if let Some(value) = plan.retry_after.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            head.headers.insert(header::RETRY_AFTER, value);
        }
        if plan.trailers {
            head.headers.insert(header::TRAILER, HeaderValue::from_static("x-simulate-trailer"));
        }
        steps.push(Step::Head(head));
        if !plan.first.is_zero() {
            steps.push(Step::Wait(plan.first));
        }
        steps.push(body);
        if plan.trailers {
            let name = HeaderName::from_static("x-simulate-trailer");
            steps.push(Step::Trailers(HeaderMap::from_iter([(name, HeaderValue::from_static("done"))])));
        }
        let mut script = Script { steps, before_body: plan.early, marks: Vec::new(), split: plan.split };
        if let Some(at) = plan.gate {
            script.mark(at, Event::Gate(self.shared.gate.clone()));
        }
        if let Some(at) = plan.stall {
            script.mark(at, Event::Stall);
        }
        if let Some(At::Body(at)) = plan.cut {
            script.mark(at, Event::Cut(plan.by));
        }
        script
    }
}

/// The headers a provider's answers have, those included that no gateway should let through.
fn put_usual_headers(headers: &mut HeaderMap, number: u64) {
    const USUAL: &[(&str, &str)] = &[
        ("openai-organization", "org-simulator"),
        ("openai-processing-ms", "12"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "1000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "999990"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "1s"),
        ("strict-transport-security", "max-age=31536000"),
        ("set-cookie", "__cf_bm=simulated; path=/; HttpOnly"),
        ("alt-svc", "h3=\":443\""),
    ];
    headers.reserve(USUAL.len() + 1);
    for (name, value) in USUAL {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::try_from(format!("req_sim{number}")) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
}
