//! The endpoint of a request, and the parameters in its body.

use std::borrow::Cow;

use http::Method;
use serde::{Deserialize, de::IgnoredAny};

/// An endpoint of the API. It is recognised by the end of the path, whatever the prefix, unless that ends with `/v1/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Models,
    Model(String),
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    Transcriptions,
    Files,
    /// An ephemeral key of the Realtime API.
    ClientSecret,
    /// A GET of a WebSocket API.
    Socket,
}

impl Endpoint {
    /// The endpoint of a path without its query.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        // As at a provider, to which a base URL with `/v1` and a path with `/v1` lead.
        if path.contains("/v1/v1/") {
            return None;
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            if path.ends_with("/models") {
                return Some(Self::Models);
            }
            if ["/realtime", "/realtime/translations", "/responses"].iter().any(|end| path.ends_with(end)) {
                return Some(Self::Socket);
            }
            let (_, model) = path.rsplit_once("/models/")?;
            let model = percent_encoding::percent_decode_str(model).decode_utf8_lossy().into_owned();
            return (!model.is_empty()).then_some(Self::Model(model));
        }
        if *method != Method::POST {
            return None;
        }
        let by_suffix = [
            ("/chat/completions", Self::Chat),
            ("/completions", Self::Completions),
            ("/embeddings", Self::Embeddings),
            ("/responses", Self::Responses),
            ("/messages", Self::Messages),
            ("/audio/transcriptions", Self::Transcriptions),
            ("/files", Self::Files),
            ("/realtime/client_secrets", Self::ClientSecret),
        ];
        by_suffix.into_iter().find(|(suffix, _)| path.ends_with(suffix)).map(|(_, endpoint)| endpoint)
    }
}

/// The parameters in the body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestParams {
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Number of texts to embed.
    pub(super) inputs: usize,
    /// Whether embeddings are sent in base64 (as the SDKs ask) instead of as numbers.
    pub(super) base64: bool,
    /// Numbers in an embedding.
    pub(super) dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    input: Option<Input>,
    #[serde(borrow)]
    encoding_format: Option<Cow<'a, str>>,
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Texts(Vec<String>),
    Other(IgnoredAny),
}

impl RequestParams {
    /// Reads the recorded start of a request body. If it is incomplete or not JSON, it is searched for the keys instead.
    pub(super) fn read(kept: &[u8]) -> Self {
        match serde_json::from_slice::<Body<'_>>(kept) {
            Ok(body) => Self {
                model: body.model.map(Cow::into_owned),
                stream: body.stream.unwrap_or(false),
                include_usage: body.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
                inputs: match body.input {
                    Some(Input::Texts(texts)) => texts.len(),
                    Some(Input::Other(_)) => 1,
                    None => 0,
                },
                base64: body.encoding_format.is_some_and(|format| format == "base64"),
                dimensions: body.dimensions,
            },
            Err(_) => Self {
                model: after(kept, b"\"model\"").and_then(text_value),
                stream: after(kept, b"\"stream\"").is_some_and(|rest| rest.starts_with(b"true")),
                include_usage: after(kept, b"\"include_usage\"")
                    .is_some_and(|rest| rest.starts_with(b"true")),
                inputs: 1,
                ..Self::default()
            },
        }
    }
}

/// The text after `key` and its colon.
fn after<'a>(body: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (_, rest) = body.split_at_checked(memchr::memmem::find(body, key)? + key.len())?;
    Some(rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

fn text_value(rest: &[u8]) -> Option<String> {
    let rest = rest.strip_prefix(b"\"")?;
    let (value, _) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_prefix_leads_to_the_endpoint() {
        assert_eq!(Endpoint::of(&Method::POST, "/openai/v1/chat/completions"), Some(Endpoint::Chat));
        assert_eq!(Endpoint::of(&Method::POST, "/v1/completions"), Some(Endpoint::Completions));
        assert_eq!(Endpoint::of(&Method::GET, "/v1/models/a%2Fb"), Some(Endpoint::Model("a/b".into())));
        assert_eq!(Endpoint::of(&Method::GET, "/v1/chat/completions"), None);
        assert_eq!(Endpoint::of(&Method::POST, "/v1/v1/chat/completions"), None);
    }

    #[test]
    fn a_truncated_body_is_searched_for_its_parameters() {
        let whole =
            br#"{"model":"m","messages":["x"],"stream": true,"stream_options":{"include_usage":true}}"#;
        let params = RequestParams::read(whole);
        assert_eq!((params.model.as_deref(), params.stream, params.include_usage), (Some("m"), true, true));
        let cut = RequestParams::read(br#"{"stream": true, "model" : "m", "messages":["xxxxx"#);
        assert_eq!((cut.model.as_deref(), cut.stream, cut.include_usage), (Some("m"), true, false));
    }
}
