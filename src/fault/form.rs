//! In which API's form errors are written.

use http::{HeaderMap, HeaderName};

/// The form in which a client expects its errors.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// OpenAI's: `{"error":{"message","type","param","code"}}`.
    #[default]
    OpenAi,
    /// Anthropic's: `{"type":"error","error":{"type","message"},"request_id"}`.
    Anthropic,
}

/// Every request to the Anthropic API has it, and no request to another.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

const MESSAGES: &[u8] = b"/messages";

impl ErrorForm {
    /// The form for a request with these headers to `path`, as it was received.
    pub fn of(headers: &HeaderMap, path: &str) -> Self {
        if is_of_messages(path) || headers.contains_key(ANTHROPIC_VERSION) {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }
}

/// Whether `path` is that of the Messages API: `…/messages`, `…/messages/count_tokens`, or below `…/messages/batches`. The messages of a thread
/// or of a stored chat completion are OpenAI's.
fn is_of_messages(path: &str) -> bool {
    // Nearly all paths end here. (`rsplit_once` prepares a search that takes longer than this one.)
    let Some(at) = path.as_bytes().windows(MESSAGES.len()).rposition(|bytes| bytes == MESSAGES) else {
        return false;
    };
    let (before, behind) = (&path[..at], &path[at + MESSAGES.len()..]);
    let of_messages = matches!(behind.trim_end_matches('/'), "" | "/count_tokens" | "/batches")
        || behind.starts_with("/batches/");
    let mut above = before.rsplit('/').skip(1);
    let owner = above.next().unwrap_or_default();
    of_messages && !matches!(owner, "threads" | "completions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_api_and_whoever_names_its_version() {
        let of = |path| ErrorForm::of(&HeaderMap::new(), path);
        for path in [
            "/v1/messages",
            "/messages/",
            "/anthropic/v1/messages/count_tokens",
            "/v1/messages/batches",
            "/v1/messages/batches/msgbatch_1/cancel",
        ] {
            assert_eq!(of(path), ErrorForm::Anthropic, "{path}");
        }
        for path in [
            "/v1/chat/completions",
            "/v1/threads/thread_1/messages",
            "/v1/threads/thread_1/messages/msg_1",
            "/v1/chat/completions/chatcmpl-1/messages",
            "/v1/messagesx",
            "/v1/messages/msg_1",
            "",
        ] {
            assert_eq!(of(path), ErrorForm::OpenAi, "{path}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", "2023-06-01".parse().unwrap());
        assert_eq!(ErrorForm::of(&headers, "/v1/files"), ErrorForm::Anthropic);
    }
}
