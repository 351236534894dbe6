//! Upstreams that refuse to be asked for the usage of a stream.

use http::StatusCode;
use memchr::memmem;

/// Whether an error with this status and body may be about `stream_options.include_usage`: it names one of the two.
///
/// Providers, and what they say: Azure OpenAI before 2024-09 `Unrecognized request argument supplied: stream_options` (songquanpeng/one-api#1423)
/// and `Unknown parameter: 'stream_options'.` (agno-agi/agno#1066); servers that validate with pydantic a 422 or 400 `extra_forbidden` with
/// `"loc":["body","stream_options"]` (gpustack/gpustack#429 for vLLM, mistralai/client-python for Mistral); Databricks a 400 (anomalyco/opencode#4698).
///
/// A message may also repeat the whole request. That does no harm: the request is then refused once more, and nothing is remembered.
pub(super) fn may_refuse_usage(status: StatusCode, body: &[u8]) -> bool {
    let is_about_request = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    let names = |word: &str| memmem::find(body, word.as_bytes()).is_some();
    is_about_request && (names("stream_options") || names("include_usage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_names_the_member_is_a_refusal() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Unknown parameter: 'stream_options'.","type":"invalid_request_error","param":"stream_options","code":"unknown_parameter"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"property 'stream_options' is unsupported","type":"invalid_request_error"}}"#,
            ),
            (
                422,
                r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted","input":{"include_usage":true}}]},"type":"invalid_request_error","param":null,"code":null}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options', 'include_usage'), 'msg': 'Extra inputs are not permitted'}]","type":"BadRequestError","code":400}"#,
            ),
        ] {
            assert!(may_refuse_usage(StatusCode::from_u16(status).unwrap(), body.as_bytes()), "{body}");
        }
        let other = br#"{"error":{"message":"'messages' must not be empty","param":"messages"}}"#;
        assert!(!may_refuse_usage(StatusCode::BAD_REQUEST, other));
        assert!(!may_refuse_usage(StatusCode::INTERNAL_SERVER_ERROR, b"stream_options"));
    }
}
