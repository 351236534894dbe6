//! The model in a path: Azure's deployments and Gemini's own API name it there, and there it decides.

use super::{
    azure::{deployment_at, segment},
    operation::gemini_model_at,
};

/// The model that a path names: `NAME` in `…/openai/deployments/NAME/…` or `…/models/NAME:generateContent`, as it is written.
pub fn path_model(path: &str) -> Option<&str> {
    path.get(deployment_at(path).or_else(|| gemini_model_at(path))?)
}

/// `path` with another model in the place of the one that it names; `None` if it names none.
pub fn with_path_model(path: &str, model: &str) -> Option<String> {
    let at = deployment_at(path).or_else(|| gemini_model_at(path))?;
    let (before, after) = (path.get(..at.start)?, path.get(at.end..)?);
    Some([before, &segment(model), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_and_geminis_paths_name_the_model() {
        assert_eq!(path_model("/openai/deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(path_model("/v1beta/models/gemini-3:streamGenerateContent"), Some("gemini-3"));
        assert_eq!(path_model("/v1beta/models/gemini-3"), None);
        assert_eq!(path_model("/v1/chat/completions"), None);
    }

    #[test]
    fn another_model_takes_its_place_and_stays_one_segment() {
        for (path, model, expected) in [
            (
                "/x/openai/deployments/a/chat/completions",
                "b.c-1",
                "/x/openai/deployments/b.c-1/chat/completions",
            ),
            (
                "/openai/deployments/a%2Fb/embeddings",
                "../c d/é",
                "/openai/deployments/..%2Fc%20d%2F%C3%A9/embeddings",
            ),
            ("/openai/deployments/a", "b", "/openai/deployments/b"),
            ("/v1beta/models/a:generateContent", "b:c", "/v1beta/models/b%3Ac:generateContent"),
        ] {
            assert_eq!(with_path_model(path, model).as_deref(), Some(expected));
        }
        assert_eq!(with_path_model("/v1/chat/completions", "b"), None);
    }
}
