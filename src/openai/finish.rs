//! Why a model stopped.

/// Why a model stopped, in one vocabulary for all dialects, small enough for a metrics label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// It was done, or met a stop sequence.
    Stop,
    /// A token limit was reached.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// Content was withheld or refused.
    ContentFilter,
    /// The upstream failed.
    Failed,
    /// It was cancelled (Responses only).
    Cancelled,
    /// A reason not known here.
    Other,
}

impl FinishReason {
    /// All reasons, in the order of their indexes.
    pub const ALL: [Self; 7] = [
        Self::Stop,
        Self::Length,
        Self::ToolCalls,
        Self::ContentFilter,
        Self::Failed,
        Self::Cancelled,
        Self::Other,
    ];

    /// Its index in [`FinishReason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The reason for an upstream's own word: `finish_reason` of chat and completions, `stop_reason` of Messages. An empty word and the
    /// word `null` are no reason: several compatible servers write them where OpenAI writes the value `null`, in each chunk.
    ///
    /// Sources: OpenAI API reference, chat completion object; Anthropic docs, "Handling stop reasons"; Mistral API reference
    /// (`model_length`, `error`); OpenRouter docs, "Errors and debugging" (`error`).
    pub(super) fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "" | "null" => return None,
            "stop" | "end_turn" | "stop_sequence" => Self::Stop,
            "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" => Self::Length,
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "content_filter" | "refusal" => Self::ContentFilter,
            "error" => Self::Failed,
            _ => Self::Other,
        })
    }

    /// The reason for a Responses `status` with its `incomplete_details.reason`; none while it is under way.
    ///
    /// Source: OpenAI API reference, response object.
    pub(super) fn of_status(status: &str, reason: Option<&str>) -> Option<Self> {
        Some(match (status, reason) {
            ("completed", _) => Self::Stop,
            ("failed", _) => Self::Failed,
            ("cancelled", _) => Self::Cancelled,
            ("incomplete", Some("max_output_tokens")) => Self::Length,
            ("incomplete", Some("content_filter")) => Self::ContentFilter,
            ("incomplete", _) => Self::Other,
            _ => return None,
        })
    }

    /// Its name in logs and as a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}
