//! Operations of providers' own APIs, which are forwarded without translation.

use std::ops::Range;

use http::Method;

use super::{model_use::ModelUse, table::LastSegments};
use crate::openai::Endpoint;

/// An operation that computes, and so may be repeated.
pub(super) struct Native {
    pub(super) endpoint: Endpoint,
    pub(super) model: ModelUse,
}

/// The operation of a request to a path with these `last` segments, if it belongs to Gemini's or to Ollama's own API.
///
/// Sources: Gemini API reference, "Generating content", "Embeddings", "Counting tokens"; Ollama API documentation.
pub(super) fn find(method: &Method, last: &LastSegments<'_>) -> Option<Native> {
    if *method != Method::POST {
        return None;
    }
    let [.., before, name] = *last;
    if let ("api", "chat" | "generate" | "embed" | "embeddings") = (before, name) {
        let generates = matches!(name, "chat" | "generate");
        let endpoint = if generates { Endpoint::OllamaGenerate } else { Endpoint::Other };
        return Some(Native { endpoint, model: ModelUse::Named });
    }
    // The model stands in the path, not in the body.
    let (_, verb) = split_verb(name)?;
    let endpoint = match verb {
        "generateContent" | "streamGenerateContent" => Endpoint::GeminiGenerate,
        "countTokens" | "embedContent" | "batchEmbedContents" => Endpoint::Other,
        _ => return None,
    };
    Some(Native { endpoint, model: ModelUse::Elsewhere })
}

/// Where the model stands in a path of Gemini's own API, `…/models/NAME:generateContent`.
///
/// Source: Gemini API reference.
pub(in crate::openai) fn gemini_model_at(path: &str) -> Option<Range<usize>> {
    // Nearly all paths end here.
    memchr::memchr2(b':', b'%', path.as_bytes())?;
    let (before, last) = path.rsplit_once('/')?;
    let (model, _) = split_verb(last)?;
    let is_one = before.rsplit('/').next() == Some("models") && !model.is_empty();
    let begin = before.len() + 1;
    is_one.then_some(begin..begin + model.len())
}

/// The name and the verb of a last segment. An upstream may decode the colon.
fn split_verb(segment: &str) -> Option<(&str, &str)> {
    let encoded = || segment.split_once("%3A").or_else(|| segment.split_once("%3a"));
    segment.split_once(':').or_else(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gemini_model(path: &str) -> Option<&str> {
        path.get(gemini_model_at(path)?)
    }

    #[test]
    fn a_path_of_gemini_names_the_model() {
        assert_eq!(gemini_model("/v1beta/models/gemini-3:streamGenerateContent"), Some("gemini-3"));
        assert_eq!(gemini_model("/v1beta/models/gemini-3%3AgenerateContent"), Some("gemini-3"));
        assert_eq!(gemini_model("/v1beta/models/gemini-3"), None);
        assert_eq!(gemini_model("/v1beta/models/:generateContent"), None);
        assert_eq!(gemini_model("/v1/files/a:b"), None);
    }
}
