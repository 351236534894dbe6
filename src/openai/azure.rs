//! The paths of Azure OpenAI, which name the model (the deployment) themselves: `/openai/deployments/NAME/chat/completions`.
//!
//! Sources: the Azure OpenAI data plane inference reference; openai-python `lib/azure.py`.

use std::{borrow::Cow, ops::Range};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::segments::Segments;

/// What is encoded in a segment: all but the unreserved characters (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The operations whose paths name a deployment; those of all others do not (openai-python `lib/azure.py`, `_deployments_endpoints`).
const OF_DEPLOYMENTS: [&str; 8] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/images/generations",
    "/images/edits",
];

/// An operation's path needs a deployment, and there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoDeployment;

/// The path at an Azure OpenAI resource for `path`, which is OpenAI's, with or without `/v1`. One that is Azure's already stays as it is.
///
/// # Errors
/// It is the path of an operation on a deployment, and there is no `name`.
pub fn azure_path<'p>(path: &'p str, name: Option<&str>) -> Result<Cow<'p, str>, NoDeployment> {
    if begins_with(path, "/openai") {
        return Ok(Cow::Borrowed(path));
    }
    let operation = if begins_with(path, "/v1") { path.get(3..).unwrap_or_default() } else { path };
    if !OF_DEPLOYMENTS.contains(&operation.trim_end_matches('/')) {
        return Ok(Cow::Owned(["/openai", operation].concat()));
    }
    let name = segment(name.ok_or(NoDeployment)?);
    Ok(Cow::Owned(["/openai/deployments/", &name, operation].concat()))
}

/// Whether this is the first segment of `path`. Azure does not look at case.
fn begins_with(path: &str, segment: &str) -> bool {
    let first = path.get(..segment.len()).unwrap_or_default();
    first.eq_ignore_ascii_case(segment) && matches!(path.as_bytes().get(segment.len()), None | Some(b'/'))
}

/// A model's name as a segment of a path, or as a part of one.
pub(super) fn segment(model: &str) -> String {
    utf8_percent_encode(model, SEGMENT).to_string()
}

/// Where the model stands in a path of Azure's form, `…/openai/deployments/NAME/…`.
pub(super) fn deployment_at(path: &str) -> Option<Range<usize>> {
    let mut before = ["", ""];
    let mut segments = Segments::of(path);
    while let Some(segment) = segments.next() {
        let [first, second] = before;
        before = [second, segment];
        // Azure does not look at case.
        if first.eq_ignore_ascii_case("openai") && second.eq_ignore_ascii_case("deployments") {
            let end = path.len() - segments.rest().len();
            let end = end - usize::from(path.get(..end)?.ends_with('/'));
            return Some(end - segment.len()..end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(path: &str) -> Option<&str> {
        path.get(deployment_at(path)?)
    }

    #[test]
    fn an_azure_path_names_the_model() {
        assert_eq!(deployment("/openai/deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(deployment("/azure/openai/deployments/my-gpt"), Some("my-gpt"));
        assert_eq!(deployment("/openai/openai/deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(deployment("/openai/deployments/openai/deployments/other"), Some("openai"));
        assert_eq!(deployment("/OpenAI/Deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(deployment("//openai//deployments//my-gpt//"), Some("my-gpt"));
        assert_eq!(deployment("/openai/v1/chat/completions"), None);
        assert_eq!(deployment("/deployments/x/chat/completions"), None);
        assert_eq!(deployment("/openai/deployments"), None);
    }

    #[test]
    fn paths_of_openai_become_those_of_azure() {
        let azure = |path: &str, name| azure_path(path, name).unwrap().into_owned();
        for path in OF_DEPLOYMENTS {
            assert_eq!(azure(path, Some("my gpt")), format!("/openai/deployments/my%20gpt{path}"));
            assert_eq!(azure(&format!("/v1{path}"), Some("m")), format!("/openai/deployments/m{path}"));
            assert_eq!(azure_path(path, None), Err(NoDeployment));
        }
        for (path, expected) in [
            ("/v1/responses", "/openai/responses"),
            ("/responses/resp_1/cancel", "/openai/responses/resp_1/cancel"),
            ("/v1/files", "/openai/files"),
            ("/v1/models", "/openai/models"),
            ("/v1/chat/completions/chatcmpl-1", "/openai/chat/completions/chatcmpl-1"),
            ("/v1/images/variations", "/openai/images/variations"),
            ("/v1", "/openai"),
            ("/v10/files", "/openai/v10/files"),
            ("/openai/deployments/x/chat/completions", "/openai/deployments/x/chat/completions"),
            ("/OpenAI/v1/responses", "/OpenAI/v1/responses"),
            ("/openaix/files", "/openai/openaix/files"),
        ] {
            assert_eq!(azure(path, Some("m")), expected, "{path}");
        }
    }
}
