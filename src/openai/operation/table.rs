//! The known operations. What is not here is decided by its method: GET and HEAD read, DELETE and PUT end in the same state, POST creates.
//!
//! Sources: the OpenAI API reference and its OpenAPI description, the operations that openai-python and openai-node call; the Anthropic API
//! reference; the Azure OpenAI data plane reference, whose paths end like OpenAI's; for `rerank` and `tokenize` the vLLM and Cohere references.

use http::Method;

use super::{
    model_use::{
        ModelUse,
        ModelUse::{Elsewhere, InSession, Named, Optional},
    },
    repeat::{
        Repeat,
        Repeat::{Compute, Create, Read, SameEnd},
    },
};
use crate::openai::{
    Endpoint,
    Endpoint::{Batches, Files, FineTuning, Models, Other, Uploads},
};

/// Segments at the end of a path that are looked at; no known operation needs more.
pub(super) const LOOKED_AT: usize = 5;

/// The last segments of a path; empty where it has fewer.
pub(super) type LastSegments<'p> = [&'p str; LOOKED_AT];

/// One operation.
pub(super) struct Row {
    method: Method,
    /// The end of its path; [`ID`] stands for any segment.
    path: &'static [&'static str],
    pub(super) endpoint: Endpoint,
    pub(super) repeat: Repeat,
    pub(super) model: ModelUse,
}

const ID: &str = "*";

/// A client limited to some models need not name one.
const NO_MODEL: ModelUse = ModelUse::None;

/// The first row that fits counts, so a longer path comes before one that it ends with. The most frequent operations come first.
static TABLE: &[Row] = &[
    // Inference.
    post(&["chat", "completions"], Endpoint::ChatCompletions, Compute, Named),
    post(&["responses"], Endpoint::Responses, Compute, Named),
    post(&["threads", ID, "messages"], Other, Create, NO_MODEL),
    post(&["messages"], Endpoint::Messages, Compute, Named),
    post(&["completions"], Endpoint::Completions, Compute, Named),
    post(&["embeddings"], Endpoint::Embeddings, Compute, Named),
    get(&["responses", ID], Endpoint::ResponsesRetrieve),
    // A model's name may have a slash in it, as on many self-hosted upstreams.
    get(&["models"], Models),
    get(&["models", ID], Models),
    get(&["models", ID, ID], Models),
    post(&["audio", "speech"], Endpoint::AudioSpeech, Compute, Named),
    post(&["audio", "transcriptions"], Endpoint::AudioTranscriptions, Compute, Named),
    post(&["audio", "translations"], Endpoint::AudioTranslations, Compute, Named),
    post(&["images", "generations"], Endpoint::ImagesGenerations, Compute, Named),
    post(&["images", "edits"], Endpoint::ImagesEdits, Compute, Named),
    post(&["images", "variations"], Endpoint::ImagesVariations, Compute, Named),
    post(&["moderations"], Endpoint::Moderations, Compute, Named),
    post(&["messages", "count_tokens"], Other, Compute, Named),
    post(&["responses", "compact"], Other, Compute, Named),
    post(&["responses", "input_tokens"], Other, Compute, Optional),
    post(&["rerank"], Other, Compute, Named),
    post(&["tokenize"], Other, Compute, Optional),
    post(&["detokenize"], Other, Compute, Optional),
    post(&["decisions"], Other, Compute, Named),
    post(&["content_provenance_checks"], Other, Compute, NO_MODEL),
    // What inference has kept.
    post(&["responses", ID, "cancel"], Other, SameEnd, NO_MODEL),
    post(&["chat", "completions", ID], Other, SameEnd, NO_MODEL),
    post(&["conversations"], Other, Create, NO_MODEL),
    post(&["conversations", ID], Other, SameEnd, NO_MODEL),
    post(&["conversations", ID, "items"], Other, Create, NO_MODEL),
    // Sessions. The model of most is in a nested member.
    post(&["realtime", "client_secrets"], Other, Create, InSession),
    post(&["realtime", "translations", "client_secrets"], Other, Create, InSession),
    post(&["realtime", "sessions"], Other, Create, InSession),
    post(&["realtime", "transcription_sessions"], Other, Create, InSession),
    post(&["realtime", "calls"], Other, Create, InSession),
    post(&["realtime", "translations", "calls"], Other, Create, InSession),
    post(&["realtime", "calls", ID, "accept"], Other, Create, InSession),
    post(&["realtime", "calls", ID, "refer"], Other, Create, NO_MODEL),
    post(&["realtime", "calls", ID, "reject"], Other, SameEnd, NO_MODEL),
    post(&["realtime", "calls", ID, "hangup"], Other, SameEnd, NO_MODEL),
    post(&["live", "sessions"], Other, Create, Elsewhere),
    post(&["live", "sessions", ID, "accept"], Other, Create, Elsewhere),
    post(&["live", "sessions", ID, "fork"], Other, Create, Elsewhere),
    post(&["live", "sessions", ID, "refer"], Other, Create, NO_MODEL),
    post(&["live", "sessions", ID, "reject"], Other, SameEnd, NO_MODEL),
    post(&["live", "sessions", ID, "hangup"], Other, SameEnd, NO_MODEL),
    post(&["chatkit", "sessions"], Other, Create, Elsewhere),
    post(&["chatkit", "sessions", ID, "cancel"], Other, SameEnd, NO_MODEL),
    // Voices and videos.
    post(&["audio", "voices"], Other, Create, NO_MODEL),
    post(&["audio", "voice_consents"], Other, Create, NO_MODEL),
    post(&["audio", "voice_consents", ID], Other, SameEnd, NO_MODEL),
    post(&["videos"], Other, Create, Named),
    post(&["videos", "characters"], Other, Create, NO_MODEL),
    post(&["videos", "edits"], Other, Create, Elsewhere),
    post(&["videos", "extensions"], Other, Create, Elsewhere),
    post(&["videos", ID, "remix"], Other, Create, Elsewhere),
    // Files, and what contains files. The files of a container are none of the account's.
    post(&["vector_stores"], Other, Create, NO_MODEL),
    post(&["vector_stores", ID], Other, SameEnd, NO_MODEL),
    post(&["vector_stores", ID, "search"], Other, Read, NO_MODEL),
    post(&["vector_stores", ID, "files"], Other, Create, NO_MODEL),
    post(&["vector_stores", ID, "files", ID], Other, SameEnd, NO_MODEL),
    post(&["vector_stores", ID, "file_batches"], Other, Create, NO_MODEL),
    post(&["vector_stores", ID, "file_batches", ID, "cancel"], Other, SameEnd, NO_MODEL),
    post(&["containers"], Other, Create, NO_MODEL),
    post(&["containers", ID, "files"], Other, Create, NO_MODEL),
    post(&["environments", ID, "files"], Other, Create, NO_MODEL),
    post(&["assistants", ID, "files"], Other, Create, NO_MODEL),
    post(&["files"], Files, Create, NO_MODEL),
    post(&["uploads"], Uploads, Create, NO_MODEL),
    post(&["uploads", ID, "parts"], Uploads, Create, NO_MODEL),
    post(&["uploads", ID, "complete"], Uploads, Create, NO_MODEL),
    post(&["uploads", ID, "cancel"], Uploads, Create, NO_MODEL),
    post(&["skills"], Other, Create, NO_MODEL),
    post(&["skills", ID], Other, SameEnd, NO_MODEL),
    post(&["skills", ID, "versions"], Other, Create, NO_MODEL),
    // Jobs. A batch names its models in a file, or in each of its requests.
    post(&["messages", "batches"], Other, Create, Elsewhere),
    post(&["messages", "batches", ID, "cancel"], Other, SameEnd, NO_MODEL),
    post(&["batches"], Batches, Create, Elsewhere),
    post(&["batches", ID, "cancel"], Batches, SameEnd, NO_MODEL),
    post(&["fine_tuning", "jobs"], FineTuning, Create, Named),
    post(&["fine_tuning", "jobs", ID, "cancel"], FineTuning, SameEnd, NO_MODEL),
    post(&["fine_tuning", "jobs", ID, "pause"], FineTuning, SameEnd, NO_MODEL),
    post(&["fine_tuning", "jobs", ID, "resume"], FineTuning, SameEnd, NO_MODEL),
    post(&["fine_tuning", "checkpoints", ID, "permissions"], FineTuning, Create, NO_MODEL),
    post(&["fine_tuning", "alpha", "graders", "run"], FineTuning, Compute, Elsewhere),
    post(&["fine_tuning", "alpha", "graders", "validate"], FineTuning, Compute, NO_MODEL),
    post(&["evals"], Other, Create, NO_MODEL),
    post(&["evals", ID], Other, SameEnd, NO_MODEL),
    post(&["evals", ID, "runs"], Other, Create, Elsewhere),
    // openai-node cancels a run by its bare path.
    post(&["evals", ID, "runs", ID], Other, SameEnd, NO_MODEL),
    post(&["evals", ID, "runs", ID, "cancel"], Other, SameEnd, NO_MODEL),
    // Assistants. A run without `model` has its assistant's.
    post(&["assistants"], Other, Create, Named),
    post(&["assistants", ID], Other, SameEnd, Optional),
    post(&["threads"], Other, Create, NO_MODEL),
    post(&["threads", "runs"], Endpoint::ThreadRuns, Create, Named),
    post(&["threads", ID], Other, SameEnd, NO_MODEL),
    post(&["threads", ID, "messages", ID], Other, SameEnd, NO_MODEL),
    post(&["threads", ID, "runs"], Endpoint::ThreadRuns, Create, Named),
    post(&["threads", ID, "runs", ID], Other, SameEnd, NO_MODEL),
    post(&["threads", ID, "runs", ID, "cancel"], Other, SameEnd, NO_MODEL),
    post(&["threads", ID, "runs", ID, "submit_tool_outputs"], Endpoint::ThreadRuns, Create, NO_MODEL),
    // Agents: OpenAI's (beta), then Anthropic's.
    post(&["agents", "sessions"], Endpoint::AgentSessions, Create, Elsewhere),
    get(&["sessions", ID, "events"], Endpoint::AgentSessions),
    get(&["sessions", ID, "events", "stream"], Endpoint::AgentSessions),
    get(&["sessions", ID, "threads", ID, "stream"], Endpoint::AgentSessions),
    // The account.
    post(&["webhook_endpoints"], Other, Create, NO_MODEL),
    post(&["webhook_endpoints", ID], Other, SameEnd, NO_MODEL),
    post(&["webhook_endpoints", ID, "test"], Other, Create, NO_MODEL),
    post(&["webhook_endpoints", ID, "rotate_secret"], Other, Create, NO_MODEL),
];

/// The operation of a request by `method` to a path with these `last` segments, if it is known.
pub(super) fn find(method: &Method, last: &LastSegments<'_>) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.method == *method && ends_with(last, row.path))
}

/// Whether a known operation's path begins with `segment`.
pub(super) fn begins_an_operation(segment: &str) -> bool {
    TABLE.iter().any(|row| row.path.first() == Some(&segment))
}

fn ends_with(last: &LastSegments<'_>, path: &[&str]) -> bool {
    let Some(end) = last.get(LOOKED_AT - path.len().min(LOOKED_AT)..) else { return false };
    let mut pairs = end.iter().zip(path).rev();
    pairs.all(|(segment, wanted)| segment == wanted || (*wanted == ID && !segment.is_empty()))
}

const fn post(path: &'static [&'static str], endpoint: Endpoint, repeat: Repeat, model: ModelUse) -> Row {
    Row { method: Method::POST, path, endpoint, repeat, model }
}

const fn get(path: &'static [&'static str], endpoint: Endpoint) -> Row {
    Row { method: Method::GET, path, endpoint, repeat: Read, model: NO_MODEL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_hides_another() {
        for (number, row) in TABLE.iter().enumerate() {
            assert!(!row.path.is_empty() && row.path.len() <= LOOKED_AT, "{:?}", row.path);
            let mut last = [""; LOOKED_AT];
            last[LOOKED_AT - row.path.len()..].copy_from_slice(row.path);
            let first = TABLE.iter().position(|row| row.method == Method::POST && ends_with(&last, row.path));
            if row.method == Method::POST {
                assert_eq!(first, Some(number), "{:?}", row.path);
            }
        }
    }
}
