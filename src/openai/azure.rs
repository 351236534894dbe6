//! The paths of Azure OpenAI, which name the model (the deployment) themselves: `/openai/deployments/NAME/chat/completions`.
//!
//! Sources: the Azure OpenAI data plane inference reference; openai-python `lib/azure.py`.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is encoded in a segment: all but the unreserved characters (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The model that an Azure OpenAI path names: `NAME` in `…/openai/deployments/NAME/…`, as it is written.
pub fn deployment(path: &str) -> Option<&str> {
    path.get(deployment_at(path)?)
}

/// `path` with another model in the place of the one that it names; `None` if it names none.
pub fn with_deployment(path: &str, model: &str) -> Option<String> {
    let at = deployment_at(path)?;
    let (before, after) = (path.get(..at.start)?, path.get(at.end..)?);
    Some([before, &segment(model), after].concat())
}

/// A model's name as a segment of a path.
fn segment(model: &str) -> String {
    utf8_percent_encode(model, SEGMENT).to_string()
}

/// Where the model stands in a path.
fn deployment_at(path: &str) -> Option<Range<usize>> {
    let mut before = ["", ""];
    let mut begin = 0;
    for segment in path.split('/') {
        let at = begin..begin + segment.len();
        begin = at.end + 1;
        if segment.is_empty() {
            continue;
        }
        let [first, second] = before;
        before = [second, segment];
        // Azure does not look at case.
        if first.eq_ignore_ascii_case("openai") && second.eq_ignore_ascii_case("deployments") {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn another_model_takes_its_place_and_stays_one_segment() {
        let renamed = |path, model| with_deployment(path, model);
        assert_eq!(
            renamed("/x/openai/deployments/a/chat/completions", "b.c-1").as_deref(),
            Some("/x/openai/deployments/b.c-1/chat/completions")
        );
        assert_eq!(
            renamed("/openai/deployments/a%2Fb/embeddings", "../c d/é").as_deref(),
            Some("/openai/deployments/..%2Fc%20d%2F%C3%A9/embeddings")
        );
        assert_eq!(renamed("/openai/deployments/a", "b").as_deref(), Some("/openai/deployments/b"));
        assert_eq!(renamed("/v1/chat/completions", "b"), None);
    }
}
