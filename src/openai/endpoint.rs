//! The names of API operations in logs and metrics.

use super::Dialect;

/// The name of an API operation, or of a group of them.
///
/// Sources: the OpenAI API reference, the Anthropic Messages API reference, the Azure OpenAI data plane reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST …/chat/completions`
    ChatCompletions,
    /// `POST …/completions`
    Completions,
    /// `POST …/embeddings`
    Embeddings,
    /// `POST …/responses`
    Responses,
    /// `GET …/responses/{id}`; also a stream, if the query has `stream=true`.
    ResponsesRetrieve,
    /// `POST …/messages` (Anthropic)
    Messages,
    /// `GET …/models` and `GET …/models/{model}`
    Models,
    /// `POST …/audio/speech`
    AudioSpeech,
    /// `POST …/audio/transcriptions`
    AudioTranscriptions,
    /// `POST …/audio/translations`
    AudioTranslations,
    /// `POST …/images/generations`
    ImagesGenerations,
    /// `POST …/images/edits`
    ImagesEdits,
    /// `POST …/images/variations`
    ImagesVariations,
    /// `POST …/moderations`
    Moderations,
    /// Anything under `…/files`
    Files,
    /// Anything under `…/uploads`
    Uploads,
    /// Anything under `…/batches`
    Batches,
    /// Anything under `…/fine_tuning`
    FineTuning,
    /// Runs of Assistants threads, which may be streamed.
    ThreadRuns,
    /// Events of agents' sessions: OpenAI's and Anthropic's.
    AgentSessions,
    /// Every other operation. It is forwarded like the others.
    Other,
}

impl Endpoint {
    /// The collection that a path with these last segments belongs to, for operations that have no row of their own.
    pub(super) fn of_collection(last: &[&str]) -> Self {
        match *last {
            // Files and batches that belong to something else have other operations.
            [.., "vector_stores" | "containers" | "assistants" | "environments", _, "files"] => Self::Other,
            [.., "vector_stores" | "containers" | "assistants" | "environments", _, "files", _] => {
                Self::Other
            }
            [.., "vector_stores" | "containers" | "environments", _, "files", _, "content"] => Self::Other,
            [.., "messages", "batches"]
            | [.., "messages", "batches", _]
            | [.., "messages", "batches", _, _] => Self::Other,
            [.., "files"] | [.., "files", _] | [.., "files", _, "content"] => Self::Files,
            [.., "uploads"] | [.., "uploads", _] | [.., "uploads", _, "parts" | "complete" | "cancel"] => {
                Self::Uploads
            }
            [.., "batches"] | [.., "batches", _] | [.., "batches", _, "cancel"] => Self::Batches,
            _ if last.contains(&"fine_tuning") => Self::FineTuning,
            _ => Self::Other,
        }
    }

    /// How its requests and answers are read.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions => Dialect::CHAT,
            Self::Completions => Dialect::COMPLETIONS,
            Self::Responses | Self::ResponsesRetrieve => Dialect::RESPONSES,
            Self::Messages => Dialect::MESSAGES,
            Self::ImagesGenerations | Self::ImagesEdits => Dialect::IMAGES,
            Self::AudioSpeech => Dialect::SPEECH,
            Self::AudioTranscriptions => Dialect::TRANSCRIPTIONS,
            Self::ThreadRuns => Dialect::THREADS,
            Self::AgentSessions => Dialect::SESSIONS,
            _ => Dialect::OTHER,
        }
    }

    /// Whether its requests are inference: they make an answer, whose form and end the gateway knows.
    pub fn is_inference(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses | Self::Messages
        )
    }

    /// Its name in logs and as a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::ResponsesRetrieve => "responses_retrieve",
            Self::Messages => "messages",
            Self::Models => "models",
            Self::AudioSpeech => "audio_speech",
            Self::AudioTranscriptions => "audio_transcriptions",
            Self::AudioTranslations => "audio_translations",
            Self::ImagesGenerations => "images_generations",
            Self::ImagesEdits => "images_edits",
            Self::ImagesVariations => "images_variations",
            Self::Moderations => "moderations",
            Self::Files => "files",
            Self::Uploads => "uploads",
            Self::Batches => "batches",
            Self::FineTuning => "fine_tuning",
            Self::ThreadRuns => "thread_runs",
            Self::AgentSessions => "agent_sessions",
            Self::Other => "other",
        }
    }
}

/// The model that an Azure OpenAI path names: `NAME` in `…/openai/deployments/NAME/…`.
///
/// Source: Azure OpenAI data plane inference reference.
pub fn deployment(path: &str) -> Option<&str> {
    let mut before = ["", ""];
    Segments::of(path).find(|segment| {
        let [first, second] = before;
        before = [second, segment];
        // Azure does not look at case.
        first.eq_ignore_ascii_case("openai") && second.eq_ignore_ascii_case("deployments")
    })
}

/// The segments of a path that are not empty, from either end.
pub(super) struct Segments<'p>(&'p str);

impl<'p> Segments<'p> {
    /// The segments of `path`.
    pub(super) fn of(path: &'p str) -> Self {
        Self(path)
    }
}

// A path is short, so that looking at each byte takes less than `str::split`, which prepares a search for each slash.
impl<'p> Iterator for Segments<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        while !self.0.is_empty() {
            let end = self.0.bytes().position(|byte| byte == b'/').unwrap_or(self.0.len());
            let (segment, rest) = self.0.split_at(end);
            self.0 = rest.get(1..).unwrap_or_default();
            if !segment.is_empty() {
                return Some(segment);
            }
        }
        None
    }
}

impl DoubleEndedIterator for Segments<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let start = self.0.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (rest, segment) = self.0.split_at(start);
            self.0 = rest.get(..start.saturating_sub(1)).unwrap_or_default();
            if !segment.is_empty() {
                return Some(segment);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_same_segments_from_either_end() {
        for (path, segments) in [
            ("/v1/chat/completions", &["v1", "chat", "completions"][..]),
            ("v1//é//x/", &["v1", "é", "x"]),
            ("///", &[]),
            ("", &[]),
        ] {
            assert_eq!(Segments::of(path).collect::<Vec<_>>(), segments, "{path}");
            let mut reversed: Vec<_> = Segments::of(path).rev().collect();
            reversed.reverse();
            assert_eq!(reversed, segments, "{path}");
        }
    }

    #[test]
    fn an_azure_path_names_the_model() {
        assert_eq!(deployment("/openai/deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(deployment("/azure/openai/deployments/my-gpt"), Some("my-gpt"));
        assert_eq!(deployment("/openai/openai/deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(deployment("/openai/deployments/openai/deployments/other"), Some("openai"));
        assert_eq!(deployment("/OpenAI/Deployments/my-gpt/chat/completions"), Some("my-gpt"));
        assert_eq!(deployment("/openai/v1/chat/completions"), None);
        assert_eq!(deployment("/deployments/x/chat/completions"), None);
        assert_eq!(deployment("/openai/deployments"), None);
    }
}
