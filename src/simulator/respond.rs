//! Responds to a request: chooses its script, plays it, and records how it ended.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{Method, header};

use super::{
    api_error::ApiError,
    bodies, control,
    ending::Ended,
    endpoint::{Endpoint, RequestParams},
    generate::Generator,
    plan::Plan,
    play::{Played, play},
    record::OpenRecord,
    request::{Request, RequestOrigin},
    script::{Script, WHOLE},
    shared::Shared,
    wire::Wire,
};

/// The parts of a request head that decide which script is used.
struct ScriptInputs {
    endpoint: Option<Endpoint>,
    simulate: Option<String>,
    id: Option<String>,
    /// Set if the request must be rejected for its key, whatever is in its body.
    invalid_key: Option<ApiError>,
    /// The response if there is no script and no endpoint.
    unknown_url: ApiError,
}

/// Responds to a request. Control requests get a response too, but are not recorded.
pub(super) async fn respond<W: Wire>(
    wire: &mut W,
    request: Request,
    origin: &RequestOrigin,
    shared: &Arc<Shared>,
) -> Ended {
    if let Some(command) = control::Command::of(&request) {
        return control::run(wire, command, shared).await;
    }
    let inputs = ScriptInputs::of(&request, shared);
    let no_body = request.method == Method::HEAD;
    let mut record = shared.records.open(|number| request.into_record(number, origin));
    let Played { ended, sent } = match choose(wire, &inputs, shared, &mut record).await {
        Ok(script) => play(wire, script).await,
        Err(ended) => Played { ended, sent: 0 },
    };
    record.body(wire.upload());
    record.end(ended, if no_body { 0 } else { sent });
    ended
}

/// Chooses the script of a request, and reads the request body unless the script starts before it.
async fn choose<W: Wire>(
    wire: &mut W,
    inputs: &ScriptInputs,
    shared: &Shared,
    record: &mut OpenRecord,
) -> Result<Script, Ended> {
    let created = unix_seconds();
    let mut generator = Generator {
        number: record.number,
        created,
        params: RequestParams::default(),
        plan: Plan::default(),
        shared,
    };
    if let Some(refusal) = &inputs.invalid_key {
        wire.read_body(WHOLE).await?;
        return Ok(generator.error(refusal));
    }
    if let Some(script) = shared.take(inputs.id.as_deref()) {
        if !script.before_body {
            wire.read_body(WHOLE).await?;
            record.body(wire.upload());
        }
        return Ok(script);
    }
    let simulate = inputs.simulate.as_deref().unwrap_or_default();
    let mut wanted = Plan::default();
    if let Err(error) = wanted.read_header(simulate) {
        return Ok(generator.error(&ApiError::bad_request(error.to_string())));
    }
    if !wanted.early {
        wire.read_body(WHOLE).await?;
        record.body(wire.upload());
    }
    generator.params = RequestParams::read(wire.upload().kept());
    generator.plan.read_model(generator.params.model.as_deref().unwrap_or_default());
    // The header was parsed above, so this cannot fail. Its settings override those of the model name.
    let _ = generator.plan.read_header(simulate);
    Ok(match &inputs.endpoint {
        Some(endpoint) => generator.script(endpoint, wire.upload()),
        None => generator.error(&inputs.unknown_url),
    })
}

impl ScriptInputs {
    fn of(request: &Request, shared: &Shared) -> Self {
        let invalid_key = shared.require_key.as_deref().and_then(|key| invalid_key(request, key));
        Self {
            endpoint: Endpoint::of(&request.method, request.path()),
            simulate: request.header("x-simulate").map(str::to_owned),
            id: request.header("x-simulate-id").map(str::to_owned),
            invalid_key,
            unknown_url: ApiError::unknown_url(request.method.as_str(), request.path()),
        }
    }
}

/// Checks the API key: a bearer token, or the key header of Anthropic or Azure.
pub(super) fn invalid_key(request: &Request, key: &str) -> Option<ApiError> {
    let authorization = request.header(header::AUTHORIZATION.as_str());
    let bearer = authorization.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let given = bearer
        .or_else(|| request.header("x-api-key"))
        .or_else(|| request.header("api-key"))
        .unwrap_or_default();
    let is_ephemeral = given.starts_with(bodies::EPHEMERAL) && takes_ephemeral_keys(request);
    (given != key && !is_ephemeral).then(|| ApiError::invalid_key(given))
}

fn takes_ephemeral_keys(request: &Request) -> bool {
    let path = request.path();
    path.ends_with("/realtime")
        || path.ends_with("/realtime/translations")
        || path.ends_with("/realtime/calls")
}

/// Unix seconds now.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
