//! From a request to its script, and the script to its end.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Version, header};

use super::{
    connection::Place,
    control,
    endpoint::{Endpoint, Facts},
    generate::Generator,
    plan::Plan,
    play::play,
    record::{Ended, Entry, Record},
    refusal::Refusal,
    script::{Script, WHOLE},
    shared::Shared,
    wire::Wire,
};

/// The head of a request.
pub(super) struct Request {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// As it came, where there is such a thing.
    pub(super) head: Bytes,
    pub(super) authority: Option<String>,
}

/// What of a head decides over the script.
struct Wish {
    endpoint: Option<Endpoint>,
    simulate: Option<String>,
    id: Option<String>,
    /// A refusal that needs no look at the body.
    wrong_key: Option<Refusal>,
    no_endpoint: Refusal,
}

/// Answers a request. Control requests are answered too, but not recorded.
pub(super) async fn respond<W: Wire>(
    wire: &mut W,
    request: Request,
    place: &Place,
    shared: &Arc<Shared>,
) -> Ended {
    if let Some(command) = control::Command::of(&request) {
        return control::run(wire, command, shared).await;
    }
    let wish = Wish::of(&request, shared);
    let bodiless = request.method == Method::HEAD;
    let mut entry = shared.records.open(|number| request.into_record(number, place));
    let (ended, sent) = match choose(wire, &wish, shared, &mut entry).await {
        Ok(script) => play(wire, script).await,
        Err(ended) => (ended, 0),
    };
    entry.body(wire.upload());
    entry.end(ended, if bodiless { 0 } else { sent });
    ended
}

async fn choose<W: Wire>(
    wire: &mut W,
    wish: &Wish,
    shared: &Shared,
    entry: &mut Entry,
) -> Result<Script, Ended> {
    let created = unix_seconds();
    let mut generator =
        Generator { number: entry.number, created, facts: Facts::default(), plan: Plan::default(), shared };
    if let Some(refusal) = &wish.wrong_key {
        wire.read_body(WHOLE).await?;
        return Ok(generator.refusal(refusal));
    }
    if let Some(script) = shared.take(wish.id.as_deref()) {
        if !script.before_body {
            wire.read_body(WHOLE).await?;
            entry.body(wire.upload());
        }
        return Ok(script);
    }
    let simulate = wish.simulate.as_deref().unwrap_or_default();
    let mut wanted = Plan::default();
    if let Err(error) = wanted.read_header(simulate) {
        return Ok(generator.refusal(&Refusal::bad_request(error.to_string())));
    }
    if !wanted.early {
        wire.read_body(WHOLE).await?;
        entry.body(wire.upload());
    }
    generator.facts = Facts::read(wire.upload().kept());
    generator.plan.read_model(generator.facts.model.as_deref().unwrap_or_default());
    // Read once already, so it cannot fail now; the header's knobs come over the model's.
    let _ = generator.plan.read_header(simulate);
    Ok(match &wish.endpoint {
        Some(endpoint) => generator.script(endpoint, wire.upload()),
        None => generator.refusal(&wish.no_endpoint),
    })
}

impl Request {
    fn into_record(self, number: u64, place: &Place) -> Record {
        Record {
            number,
            connection: place.connection,
            on_connection: place.on_connection,
            protocol: self.version,
            tls: place.tls.clone(),
            head: self.head,
            method: self.method,
            target: self.target,
            headers: self.headers,
            authority: self.authority,
            body_length: 0,
            body_complete: false,
            body_sha256: [0; 32],
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            started: Instant::now(),
            ended: None,
            sent: 0,
        }
    }

    /// The path without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Wish {
    fn of(request: &Request, shared: &Shared) -> Self {
        let wrong_key = shared.require_key.as_deref().and_then(|key| wrong_key(request, key));
        Self {
            endpoint: Endpoint::of(&request.method, request.path()),
            simulate: request.text("x-simulate").map(str::to_owned),
            id: request.text("x-simulate-id").map(str::to_owned),
            wrong_key,
            no_endpoint: Refusal::no_endpoint(request.method.as_str(), request.path()),
        }
    }
}

/// A key comes as a bearer token, or in the header of Anthropic or of Azure.
fn wrong_key(request: &Request, key: &str) -> Option<Refusal> {
    let bearer = request
        .text(header::AUTHORIZATION.as_str())
        .map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let given =
        bearer.or_else(|| request.text("x-api-key")).or_else(|| request.text("api-key")).unwrap_or_default();
    (given != key).then(|| Refusal::wrong_key(given))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
