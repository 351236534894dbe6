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
    /// `POST …/models/{model}:generateContent` and `:streamGenerateContent` (Gemini's own API)
    GeminiGenerate,
    /// `POST …/api/chat` and `POST …/api/generate` (Ollama's own API)
    OllamaGenerate,
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
            Self::GeminiGenerate => Dialect::GEMINI,
            Self::OllamaGenerate => Dialect::OLLAMA,
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

    /// Whether its streams report their usage only if `stream_options.include_usage` asks for it.
    pub fn reports_usage_if_asked(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
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
            Self::GeminiGenerate => "gemini_generate",
            Self::OllamaGenerate => "ollama_generate",
            Self::Other => "other",
        }
    }
}
