//! Generated responses: endpoint, request parameters and plan become a script.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    api_error::ApiError,
    bodies,
    content::{Dialect, ResponseMeta},
    endpoint::{Endpoint, RequestParams},
    events::Events,
    plan::{BodyLength, CutPoint, Plan},
    script::{Framing, Head, Mark, MarkAction, Script, Step},
    shared::Shared,
    upload::Upload,
};

/// Generates the script of one request.
pub(super) struct Generator<'a> {
    /// Number of the request, from 1.
    pub(super) number: u64,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) params: RequestParams,
    pub(super) plan: Plan,
    pub(super) shared: &'a Shared,
}

impl Generator<'_> {
    /// The script of the response of `endpoint`.
    pub(super) fn script(&self, endpoint: &Endpoint, upload: &Upload) -> Script {
        if let Some(error) = &self.plan.error {
            return self.error(error);
        }
        if let Some(status) = self.plan.status.filter(|status| *status != StatusCode::OK) {
            return self.error(&ApiError::of(status));
        }
        if let Some(model) = self.missing_model(endpoint) {
            return self.error(&ApiError::model_not_found(model));
        }
        let body = match endpoint {
            Endpoint::Chat => return self.completion(Dialect::Chat),
            Endpoint::Completions => return self.completion(Dialect::Completions),
            Endpoint::Responses => return self.completion(Dialect::Responses),
            Endpoint::Messages => return self.completion(Dialect::Messages),
            Endpoint::Models => bodies::models(self.created),
            Endpoint::Model(id) => bodies::model(id, self.created),
            Endpoint::Embeddings => bodies::embeddings(&self.params, &self.plan),
            Endpoint::Files => bodies::file(self.number, self.created, upload),
            Endpoint::ClientSecret => bodies::client_secret(self.number, self.created),
            Endpoint::Transcriptions => bodies::transcription(&self.plan, upload),
            Endpoint::Socket => return self.error(&ApiError::upgrade_required()),
        };
        self.full_body(StatusCode::OK, body.to_string())
    }

    /// The script of an error response, with the delays, cuts and stalls of the plan.
    pub(super) fn error(&self, error: &ApiError) -> Script {
        self.full_body(error.status, error.body().to_string())
    }

    fn missing_model<'a>(&'a self, endpoint: &'a Endpoint) -> Option<&'a str> {
        let model = match endpoint {
            Endpoint::Model(id) => Some(id.as_str()),
            _ => self.params.model.as_deref(),
        };
        model.filter(|model| model.starts_with("missing-"))
    }

    fn completion(&self, dialect: Dialect) -> Script {
        let model = self.params.model.as_deref().unwrap_or("sim");
        let model = serde_json::to_string(model).unwrap_or_default();
        let meta = ResponseMeta { number: self.number, model, created: self.created };
        if !self.params.stream {
            return self.full_body(StatusCode::OK, bodies::completion(dialect, &meta, &self.plan));
        }
        let framing = if self.plan.length == BodyLength::Close { Framing::Close } else { Framing::Chunked };
        let events = Events::new(dialect, &self.params, meta, &self.plan, self.shared.pace);
        self.assemble(Head { framing, ..Head::event_stream() }, Step::Events(Box::new(events)))
    }

    fn full_body(&self, status: StatusCode, body: String) -> Script {
        let framing = match self.plan.length {
            BodyLength::Auto if self.plan.trailers => Framing::Chunked,
            BodyLength::Auto | BodyLength::Known => Framing::Known(body.len() as u64),
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::Close => Framing::Close,
        };
        self.assemble(Head { framing, ..Head::json(status, body.len()) }, Step::Send(Bytes::from(body)))
    }

    /// Adds waits, marks and trailers to a response.
    fn assemble(&self, mut head: Head, body: Step) -> Script {
        let plan = &self.plan;
        let mut steps = Vec::with_capacity(5);
        if !plan.delay.is_zero() {
            steps.push(Step::Wait(plan.delay));
        }
        if plan.cut == Some(CutPoint::Head) {
            steps.push(Step::Cut(plan.by));
        }
        head.headers.extend(provider_headers(self.number));
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
        Script { steps, before_body: plan.early, marks: marks(plan, self.shared), split: plan.split }
    }
}

/// The actions of a plan at byte positions of the response body, sorted.
pub(super) fn marks(plan: &Plan, shared: &Shared) -> Vec<Mark> {
    let gate = plan.gate.map(|at| Mark { at, action: MarkAction::Gate(shared.gate.clone()) });
    let stall = plan.stall.map(|at| Mark { at, action: MarkAction::Stall });
    let cut = match plan.cut {
        Some(CutPoint::Body(at)) => Some(Mark { at, action: MarkAction::Cut(plan.by) }),
        Some(CutPoint::Head) | None => None,
    };
    let mut marks: Vec<Mark> = [gate, stall, cut].into_iter().flatten().collect();
    marks.sort_by_key(|mark| mark.at);
    marks
}

/// The headers of a real provider's responses, including those that a gateway must not forward.
pub(super) fn provider_headers(number: u64) -> HeaderMap {
    const HEADERS: &[(&str, &str)] = &[
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
    let mut headers = HeaderMap::with_capacity(HEADERS.len() + 1);
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::try_from(format!("req_sim{number}")) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers
}
