//! Whether a target accepts its keys: asked for its list of models, and, if wanted, for a streamed answer.

use std::{future::poll_fn, pin::Pin, rc::Rc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use serde_json::{Value, json};

use super::{Api, KeyAnswer, KeyReport, StreamReport, Subject, millis, too_slow};
use crate::{
    body::Outbound,
    openai::{self, Dialect, StreamReader},
    sse::Scanner,
    upstream::{Answer, AnswerBody, Pools},
};

/// The most bytes of a response that are read.
const MOST_READ: usize = 4 << 20;

/// The most models of a list that are kept.
const MOST_MODELS: usize = 1000;

/// The version of Anthropic's API whose requests are sent (Anthropic API reference, "Versions").
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Asks with each key; with `model`, also for a streamed answer of it.
pub(super) async fn ask(subject: &Subject<'_>, pools: &Rc<Pools>, model: Option<&str>) -> Vec<KeyReport> {
    let asker = Asker { subject, pools };
    let keys = subject.upstream.keys.values();
    if keys.is_empty() {
        return vec![asker.about(None, model).await];
    }
    let mut reports = Vec::new();
    for (at, key) in keys.into_iter().enumerate() {
        reports.push(asker.about(Some((at + 1, key)), model).await);
    }
    reports
}

struct Asker<'a> {
    subject: &'a Subject<'a>,
    pools: &'a Rc<Pools>,
}

/// What came for a request.
struct Got {
    status: StatusCode,
    body: Bytes,
}

impl Asker<'_> {
    async fn about(&self, key: Option<(usize, HeaderValue)>, model: Option<&str>) -> KeyReport {
        let start = Instant::now();
        let (number, value) = key.unzip();
        let (verdict, detail, models) = self.judge(value.as_ref()).await;
        let ms = millis(start);
        let mut report = KeyReport { key: number, verdict, detail, ms, models, stream: None };
        if let Some(model) = model {
            let stream = self.stream(value.as_ref(), model).await;
            // A request that succeeds with the key says more than any list, which a restricted key may not be allowed to see.
            let may_be_good = matches!(report.verdict, KeyAnswer::CannotTell | KeyAnswer::Refused);
            if stream.ok && may_be_good && value.is_some() {
                report.verdict = KeyAnswer::Accepted;
                report.detail = format!("streamed an answer of {model}");
            }
            report.stream = Some(stream);
        }
        report
    }

    async fn judge(&self, key: Option<&HeaderValue>) -> (KeyAnswer, String, Vec<String>) {
        let Some(path) = &self.subject.models_path else {
            return (KeyAnswer::CannotTell, "no route leads to this upstream".to_owned(), Vec::new());
        };
        let got = match self.get(path, key).await {
            Ok(got) => got,
            Err(why) => return (KeyAnswer::Failed, format!("GET {path}: {why}"), Vec::new()),
        };
        let asked = format!("GET {path}: {}", self.shown(&got));
        let models = models(&got.body);
        let verdict = match got.status.as_u16() {
            200..300 if key.is_none() => KeyAnswer::NoneNeeded,
            200..300 => return self.compare(path, asked, models).await,
            401 | 403 if lacks_a_scope(&got.body) => KeyAnswer::CannotTell,
            401 => KeyAnswer::Refused,
            403 => self.forbidden(path).await,
            500.. => KeyAnswer::Failed,
            _ => KeyAnswer::CannotTell,
        };
        let hint = match (verdict, got.status) {
            (_, StatusCode::NOT_FOUND) => "; check the path of the base URL; --model NAME asks for an answer",
            (KeyAnswer::CannotTell, _) => "; --model NAME asks for an answer",
            _ => "",
        };
        (verdict, format!("{asked}{hint}"), models)
    }

    /// The key may not list models. A target that answers the same without it has refused the key; another one knows it, and may let it do
    /// other things (RFC 9110 section 15.5.4).
    async fn forbidden(&self, path: &str) -> KeyAnswer {
        match self.get(path, None).await.map(|got| got.status) {
            Ok(StatusCode::UNAUTHORIZED) => KeyAnswer::CannotTell,
            _ => KeyAnswer::Refused,
        }
    }

    /// The request with the key succeeded: does one without it?
    async fn compare(
        &self,
        path: &str,
        asked: String,
        models: Vec<String>,
    ) -> (KeyAnswer, String, Vec<String>) {
        let without = self.get(path, None).await;
        match without.map(|got| got.status) {
            Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => (KeyAnswer::Accepted, asked, models),
            Ok(status) if status.is_success() => {
                let detail = format!("{asked}, but also without a key; --model NAME asks for an answer");
                (KeyAnswer::CannotTell, detail, models)
            }
            // Anything but a success shows that the key made the difference.
            Ok(_) => (KeyAnswer::Accepted, asked, models),
            Err(why) => (KeyAnswer::CannotTell, format!("{asked}, and without a key: {why}"), models),
        }
    }

    /// The status, and the provider's own code. Its message is left out, because some providers repeat the key in it.
    fn shown(&self, got: &Got) -> String {
        let parsed: Value = serde_json::from_slice(&got.body).unwrap_or_default();
        let error = &parsed["error"];
        let code = error["code"].as_str().or_else(|| error["type"].as_str()).unwrap_or_default();
        let is_plain = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_graphic());
        if code.is_empty() || !is_plain || self.subject.upstream.secrets.found_in(code.as_bytes()) {
            return got.status.as_u16().to_string();
        }
        format!("{} {code}", got.status.as_u16())
    }

    async fn get(&self, path: &str, key: Option<&HeaderValue>) -> Result<Got, String> {
        let request = self.request(Method::GET, path, key).body(Outbound::EMPTY);
        let request = request.map_err(|error| error.to_string())?;
        let timeout = self.subject.timeout;
        let whole = async {
            let (head, body) = self.send(request).await?.into_parts();
            Ok(Got { status: head.status, body: read(body).await? })
        };
        tokio::time::timeout(timeout, whole).await.unwrap_or_else(|_| Err(too_slow(timeout)))
    }

    fn request(&self, method: Method, path: &str, key: Option<&HeaderValue>) -> http::request::Builder {
        let target = self.subject.target;
        let http2 = target.dialer.http2();
        let uri = if http2 {
            let scheme = target.url.split(':').next().unwrap_or("https");
            format!("{scheme}://{}{path}", target.authority)
        } else {
            path.to_owned()
        };
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, "*/*");
        request = request.header(header::USER_AGENT, concat!("sluicegate/", env!("CARGO_PKG_VERSION")));
        if http2 {
            request = request.version(Version::HTTP_2);
        } else {
            request = request.header(header::HOST, target.host.clone());
        }
        if self.subject.api == Api::Anthropic {
            request = request.header("anthropic-version", ANTHROPIC_VERSION);
        }
        for (name, value) in &self.subject.upstream.headers {
            request = request.header(name, value);
        }
        match (&self.subject.upstream.auth, key) {
            (Some(name), Some(key)) => request.header(name, key),
            _ => request,
        }
    }

    async fn send(&self, request: Request<Outbound>) -> Result<Answer, String> {
        let dialled = self.pools.dial(&self.subject.target.dialer, self.subject.timeout).await;
        let connection = dialled.map_err(|error| described(&error))?;
        connection.send(request).await.map_err(|error| error.cause.to_string())
    }

    async fn stream(&self, key: Option<&HeaderValue>, model: &str) -> StreamReport {
        let Some(path) = &self.subject.answer_path else { return StreamReport::default() };
        let renamed = self.subject.upstream.needs_model().then(|| openai::with_path_model(path, model));
        let path = renamed.flatten().unwrap_or_else(|| path.clone());
        // Older servers know only `max_tokens`, OpenAI's newer models only `max_completion_tokens`.
        let limits: &[&str] = if self.subject.api == Api::Anthropic {
            &["max_tokens"]
        } else {
            &["max_completion_tokens", "max_tokens"]
        };
        let mut report = StreamReport::default();
        for limit in limits {
            let streamed =
                tokio::time::timeout(self.subject.timeout * 3, self.stream_once(&path, key, model, limit));
            report = streamed.await.unwrap_or_else(|_| StreamReport {
                error: Some(too_slow(self.subject.timeout * 3)),
                ..StreamReport::default()
            });
            if !matches!(report.status, 400 | 422) {
                break;
            }
        }
        report
    }

    async fn stream_once(
        &self,
        path: &str,
        key: Option<&HeaderValue>,
        model: &str,
        limit: &str,
    ) -> StreamReport {
        let mut body = json!({
            "model": model,
            "stream": true,
            "messages": [{"role": "user", "content": "Reply with OK."}],
        });
        body[limit] = json!(16);
        if self.subject.api == Api::OpenAi {
            body["stream_options"] = json!({"include_usage": true});
        }
        let body = Bytes::from(body.to_string());
        let request = self
            .request(Method::POST, path, key)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .body(Outbound::Whole(Some(body)));
        let start = Instant::now();
        let answer = match request.map_err(|error| error.to_string()) {
            Ok(request) => self.send(request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => self.read_stream(*answer, start).await,
            Err(error) => StreamReport { error: Some(error), ..StreamReport::default() },
        }
    }

    async fn read_stream(&self, answer: Response<AnswerBody>, start: Instant) -> StreamReport {
        let (head, mut body) = answer.into_parts();
        let mut report = StreamReport { status: head.status.as_u16(), ..StreamReport::default() };
        if !head.status.is_success() {
            let body = read(body).await.unwrap_or_default();
            report.error = Some(self.shown(&Got { status: head.status, body }));
            return report;
        }
        let dialect = if self.subject.api == Api::Anthropic { Dialect::MESSAGES } else { Dialect::CHAT };
        let (mut scanner, mut reader) = (Scanner::new(), StreamReader::new(dialect));
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    report.error = Some(error.to_string());
                    return report;
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            scanner.scan(&data, &mut |event| {
                let notice = reader.event(&event);
                if notice.first_content {
                    report.first_token_ms = Some(millis(start));
                }
                if notice.error {
                    report.error = Some("an error event in the stream".to_owned());
                }
            });
        }
        report.usage = reader.reading().usage.is_some();
        report.complete = reader.terminal().is_some() || reader.all_finished();
        report.ok = report.error.is_none() && report.complete;
        report
    }
}

/// The whole body, up to [`MOST_READ`].
async fn read(mut body: AnswerBody) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MOST_READ {
            break;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn models(body: &[u8]) -> Vec<String> {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let list = parsed["data"].as_array().into_iter().flatten();
    list.filter_map(|model| model["id"].as_str().map(str::to_owned)).take(MOST_MODELS).collect()
}

/// Whether the target says that the key is good, but not for the list: OpenAI's restricted keys get a 401 or 403 there.
fn lacks_a_scope(body: &[u8]) -> bool {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &parsed["error"];
    error["code"] == "missing_scope"
        || error["message"].as_str().is_some_and(|text| text.contains("Missing scopes: "))
}

/// An error with its causes.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
