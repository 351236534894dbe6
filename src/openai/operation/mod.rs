//! What an API operation is, and what follows from it: whether a request may be repeated, and whether it names a model.

mod kept;
mod model_use;
mod native;
mod repeat;
mod table;

use http::Method;

use super::{Dialect, Endpoint, Facts, segments::Segments};

pub use kept::{Kept, Need};
pub use model_use::ModelUse;
use native::Native;
pub(super) use native::gemini_model_at;
pub use repeat::Repeat;
use table::{LOOKED_AT, LastSegments, Row};

/// An API operation, determined by method and path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its name in logs and metrics.
    pub endpoint: Endpoint,
    /// Whether it names the model that it runs.
    pub model: ModelUse,
    /// Whether it may be repeated, as far as method and path say: [`Operation::repeat`].
    repeat: Repeat,
}

impl Operation {
    /// The operation of a request to `path`, which is canonical: decoded, no dot segments, no query.
    ///
    /// Only the end of the path counts, so prefixes (`/v1`, Azure's `/openai/deployments/NAME`, anything) do not matter. An encoded slash
    /// (`%2F`) is part of its segment.
    pub fn of(method: &Method, path: &str) -> Self {
        let mut last = [""; LOOKED_AT];
        for (slot, segment) in last.iter_mut().rev().zip(Segments::of(path).rev()) {
            *slot = segment;
        }
        match table::find(method, &last) {
            Some(Row { endpoint, repeat, model, .. }) => {
                Self { endpoint: *endpoint, repeat: *repeat, model: *model }
            }
            None => match native::find(method, &last) {
                Some(Native { endpoint, model }) => Self { endpoint, repeat: Repeat::Compute, model },
                None => Self::unknown(method, &last),
            },
        }
    }

    /// An operation that is in no row of the table: what HTTP says of its method (RFC 9110 §9.2) decides.
    fn unknown(method: &Method, last: &LastSegments<'_>) -> Self {
        let (repeat, model) = match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => (Repeat::Read, ModelUse::None),
            Method::DELETE => (Repeat::SameEnd, ModelUse::None),
            Method::PUT => (Repeat::SameEnd, ModelUse::Unseen),
            _ => (Repeat::Create, ModelUse::Unseen),
        };
        Self { endpoint: Endpoint::of_collection(last), repeat, model }
    }

    /// How its requests and responses are read.
    pub fn dialect(self) -> Dialect {
        self.endpoint.dialect()
    }

    /// Whether a request with these facts may be repeated; without `facts` (its body could not be read), what may depend on them counts as
    /// creating something.
    ///
    /// - A chat completion with `store: true` can be fetched by its id, so it is there twice when it is made twice.
    /// - A Responses request is plain inference unless it runs in the `background`, belongs to a `conversation`, continues from a
    ///   `previous_response_id`, is to be kept (`store: true`), or uses tools that run at the provider. Without `store` the provider keeps
    ///   the response as well (the API's default is true), but nearly all requests leave it out and nothing ever refers to the response of
    ///   an attempt that failed: a repeat leaves an unused copy and costs tokens. Who writes `store: true` out wants to find that response.
    /// - MCP servers may act on the world in every dialect.
    ///
    /// Sources: OpenAI API reference, chat completions `store` and Responses; Anthropic Messages reference, `mcp_servers`.
    pub fn repeat(self, facts: Option<&Facts>) -> Repeat {
        let depends_on_body =
            matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages);
        if !depends_on_body {
            return self.repeat;
        }
        let creates = facts.is_none_or(|facts| match self.endpoint {
            Endpoint::ChatCompletions => facts.store || facts.mcp,
            Endpoint::Messages => facts.mcp,
            _ => facts.background || facts.store || facts.continues || facts.hosted_tools || facts.mcp,
        });
        if creates { Repeat::Create } else { self.repeat }
    }

    /// Whether a member `model` may be added to a body that has none. Not to that of something which is kept (batches, fine-tuning jobs) or
    /// not known: the member could make it invalid.
    pub fn takes_model(self) -> bool {
        self.model == ModelUse::Named && self.repeat == Repeat::Compute
    }
}

/// The part of `path` from the first segment with which a known operation begins: what an SDK appends to its base URL.
pub fn operation_part(path: &str) -> Option<&str> {
    let mut start = 0_usize;
    for segment in path.split_inclusive('/') {
        if table::begins_an_operation(segment.trim_end_matches('/')) {
            return path.get(start.checked_sub(1)?..);
        }
        start += segment.len();
    }
    None
}

/// The base path that is left if `path` ends with an operation, as in `/v1/chat/completions`: somebody took an endpoint for a base URL.
/// `/models` alone is the base of some providers, so it counts behind a version only.
pub fn base_of_endpoint(path: &str) -> Option<&str> {
    const ENDPOINTS: [&str; 6] =
        ["/chat/completions", "/completions", "/responses", "/messages", "/embeddings", "/v1/models"];
    let path = path.trim_end_matches('/');
    let ends = ENDPOINTS.iter().find(|end| path.ends_with(**end))?;
    path.strip_suffix(ends.strip_prefix("/v1").unwrap_or(ends))
}

#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;
