//! Which API operation a request is.

use http::Method;

use super::{Dialect, Facts};

/// An API operation, determined by method and path alone.
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

/// Segments at the end of a path that are looked at; no known operation needs more.
const LOOKED_AT: usize = 5;

impl Endpoint {
    /// The operation of a request to `path`, which is canonical: decoded, no dot segments, no query.
    ///
    /// Only the end of the path counts, so prefixes (`/v1`, Azure's `/openai/deployments/NAME`, anything) do not matter.
    pub fn of(method: &Method, path: &str) -> Self {
        let mut last = [""; LOOKED_AT];
        let reversed = path.rsplit('/').filter(|segment| !segment.is_empty());
        for (slot, segment) in last.iter_mut().rev().zip(reversed) {
            *slot = segment;
        }
        let operation = match *method {
            Method::POST => created(&last),
            Method::GET => retrieved(&last),
            _ => None,
        };
        operation.or_else(|| collection(&last)).unwrap_or(Self::Other)
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

    /// Whether a request makes an answer and nothing else. Whether it may be sent again depends on its body too: [`Endpoint::may_repeat`].
    pub fn is_inference(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses | Self::Messages
        )
    }

    /// Whether a request with this body may be sent again: that costs tokens, and changes nothing. A Responses request that goes on in
    /// the background may not.
    pub fn may_repeat(self, facts: &Facts) -> bool {
        self.is_inference() && self.dialect().may_repeat(facts)
    }

    /// Whether its body has a `model`, or may: of batches, files and whatever is not known, to put one in could make them invalid.
    pub fn takes_model(self) -> bool {
        self.is_inference() || matches!(self, Self::AudioSpeech | Self::ImagesGenerations | Self::Moderations)
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
    path.split('/').filter(|segment| !segment.is_empty()).find(|segment| {
        let [first, second] = before;
        before = [second, segment];
        // Azure does not look at case.
        first.eq_ignore_ascii_case("openai") && second.eq_ignore_ascii_case("deployments")
    })
}

fn created(path: &[&str; LOOKED_AT]) -> Option<Endpoint> {
    Some(match *path {
        [.., "chat", "completions"] => Endpoint::ChatCompletions,
        [.., "completions"] => Endpoint::Completions,
        [.., "embeddings"] => Endpoint::Embeddings,
        [.., "responses"] => Endpoint::Responses,
        // The messages of an Assistants thread are something else.
        [.., "threads", _, "messages"] => Endpoint::Other,
        [.., "messages"] => Endpoint::Messages,
        [.., "audio", "speech"] => Endpoint::AudioSpeech,
        [.., "audio", "transcriptions"] => Endpoint::AudioTranscriptions,
        [.., "audio", "translations"] => Endpoint::AudioTranslations,
        [.., "images", "generations"] => Endpoint::ImagesGenerations,
        [.., "images", "edits"] => Endpoint::ImagesEdits,
        [.., "images", "variations"] => Endpoint::ImagesVariations,
        [.., "moderations"] => Endpoint::Moderations,
        [.., "threads", "runs"] | [.., "threads", _, "runs"] => Endpoint::ThreadRuns,
        [.., "threads", _, "runs", _, "submit_tool_outputs"] => Endpoint::ThreadRuns,
        [.., "agents", "sessions"] => Endpoint::AgentSessions,
        _ => return None,
    })
}

fn retrieved(path: &[&str; LOOKED_AT]) -> Option<Endpoint> {
    Some(match *path {
        [.., "responses", _] => Endpoint::ResponsesRetrieve,
        // OpenAI (beta), then Anthropic.
        [.., "sessions", _, "events"]
        | [.., "sessions", _, "events", "stream"]
        | [.., "sessions", _, "threads", _, "stream"] => Endpoint::AgentSessions,
        // A model's name may have a slash in it, as on many self-hosted upstreams.
        [.., "models"] | [.., "models", _] | [.., "models", _, _] => Endpoint::Models,
        _ => return None,
    })
}

fn collection(path: &[&str; LOOKED_AT]) -> Option<Endpoint> {
    Some(match *path {
        // Files and batches that belong to something else have other operations.
        [.., "vector_stores" | "containers" | "assistants", _, "files"] => return None,
        [.., "vector_stores" | "containers" | "assistants", _, "files", _] => return None,
        [.., "vector_stores" | "containers", _, "files", _, "content"] => return None,
        [.., "messages", "batches"] | [.., "messages", "batches", _] | [.., "messages", "batches", _, _] => {
            return None;
        }
        [.., "files"] | [.., "files", _] | [.., "files", _, "content"] => Endpoint::Files,
        [.., "uploads"] | [.., "uploads", _] | [.., "uploads", _, "parts" | "complete" | "cancel"] => {
            Endpoint::Uploads
        }
        [.., "batches"] | [.., "batches", _] | [.., "batches", _, "cancel"] => Endpoint::Batches,
        _ if path.contains(&"fine_tuning") => Endpoint::FineTuning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Endpoint {
        Endpoint::of(&method.parse().unwrap(), path)
    }

    #[test]
    fn every_operation_by_its_own_path_under_any_prefix() {
        let table = [
            ("POST", "chat/completions", Endpoint::ChatCompletions),
            ("POST", "completions", Endpoint::Completions),
            ("POST", "embeddings", Endpoint::Embeddings),
            ("POST", "responses", Endpoint::Responses),
            ("GET", "responses/resp_1", Endpoint::ResponsesRetrieve),
            ("POST", "messages", Endpoint::Messages),
            ("GET", "models", Endpoint::Models),
            ("GET", "models/gpt-5", Endpoint::Models),
            ("GET", "models/meta-llama/Llama-3", Endpoint::Models),
            ("POST", "audio/speech", Endpoint::AudioSpeech),
            ("POST", "audio/transcriptions", Endpoint::AudioTranscriptions),
            ("POST", "audio/translations", Endpoint::AudioTranslations),
            ("POST", "images/generations", Endpoint::ImagesGenerations),
            ("POST", "images/edits", Endpoint::ImagesEdits),
            ("POST", "images/variations", Endpoint::ImagesVariations),
            ("POST", "moderations", Endpoint::Moderations),
            ("DELETE", "files/file-1", Endpoint::Files),
            ("GET", "files/file-1/content", Endpoint::Files),
            ("POST", "uploads/u/parts", Endpoint::Uploads),
            ("POST", "batches/b/cancel", Endpoint::Batches),
            ("GET", "fine_tuning/jobs/j/checkpoints", Endpoint::FineTuning),
            ("POST", "threads/runs", Endpoint::ThreadRuns),
            ("POST", "threads/thread_1/runs", Endpoint::ThreadRuns),
            ("POST", "threads/thread_1/runs/run_1/submit_tool_outputs", Endpoint::ThreadRuns),
            ("POST", "agents/sessions", Endpoint::AgentSessions),
            ("GET", "agents/sessions/s/events", Endpoint::AgentSessions),
            ("GET", "sessions/s/events/stream", Endpoint::AgentSessions),
            ("GET", "sessions/s/threads/t/stream", Endpoint::AgentSessions),
        ];
        for (method, path, endpoint) in table {
            for prefix in ["", "/v1", "/openai/deployments/gpt-4o", "/any/thing/at/all/v1beta"] {
                assert_eq!(of(method, &format!("{prefix}/{path}")), endpoint, "{method} {prefix}/{path}");
            }
        }
    }

    #[test]
    fn what_only_resembles_an_operation_is_other() {
        for (method, path) in [
            ("GET", "/v1/chat/completions"),
            ("GET", "/v1/responses"),
            ("POST", "/v1/responses/resp_1/cancel"),
            ("GET", "/v1/responses/resp_1/input_items"),
            ("POST", "/v1/threads/t/messages"),
            ("POST", "/v1/messages/count_tokens"),
            ("POST", "/v1/messages/batches"),
            ("POST", "/v1/vector_stores/v/files"),
            ("GET", "/v1/containers/c/files/f/content"),
            ("DELETE", "/v1/models/gpt-5"),
            ("POST", "/v1/xcompletions"),
            ("POST", "/"),
            ("POST", ""),
        ] {
            assert_eq!(of(method, path), Endpoint::Other, "{method} {path}");
        }
    }

    #[test]
    fn slashes_at_the_end_do_not_matter() {
        assert_eq!(of("POST", "/v1/chat/completions/"), Endpoint::ChatCompletions);
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
