//! The names of span attributes, by version of OpenTelemetry's semantic conventions.
//!
//! The conventions for generative AI are in development, and names change between versions. They are therefore data: a new version is a new row here and
//! a word in `config::Semconv`.

use crate::config::Semconv;

/// The names of one version.
#[derive(Debug)]
pub(super) struct Names {
    /// The version's schema, for backends that translate between versions.
    pub(super) schema_url: &'static str,
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) request_model: &'static str,
    pub(super) request_stream: &'static str,
    pub(super) response_model: &'static str,
    pub(super) finish_reasons: &'static str,
    pub(super) time_to_first_chunk: &'static str,
    pub(super) input_tokens: &'static str,
    pub(super) output_tokens: &'static str,
    pub(super) cache_read_tokens: &'static str,
    pub(super) cache_write_tokens: &'static str,
    pub(super) reasoning_tokens: &'static str,
}

/// Source: semantic conventions 1.41, "Semantic conventions for generative client AI spans".
static V1_41: Names = Names {
    schema_url: "https://opentelemetry.io/schemas/1.41.0",
    operation: "gen_ai.operation.name",
    provider: "gen_ai.provider.name",
    request_model: "gen_ai.request.model",
    request_stream: "gen_ai.request.stream",
    response_model: "gen_ai.response.model",
    finish_reasons: "gen_ai.response.finish_reasons",
    time_to_first_chunk: "gen_ai.response.time_to_first_chunk",
    input_tokens: "gen_ai.usage.input_tokens",
    output_tokens: "gen_ai.usage.output_tokens",
    cache_read_tokens: "gen_ai.usage.cache_read.input_tokens",
    cache_write_tokens: "gen_ai.usage.cache_creation.input_tokens",
    reasoning_tokens: "gen_ai.usage.reasoning.output_tokens",
};

impl Names {
    pub(super) fn of(version: Semconv) -> &'static Self {
        match version {
            Semconv::V1_41 => &V1_41,
        }
    }
}
