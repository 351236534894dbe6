//! What is known of each operation that today's SDKs call, one row for each.
//!
//! Sources: the operations of openai-python 3.57 and openai-node 7.59, of the Anthropic SDKs, and the OpenAI API reference.

use super::*;

/// Method, path, whether it may be repeated, how its streams are read, and where its model stands.
type Row = (&'static str, &'static str, Repeat, Dialect, ModelUse);

const GET: &str = "GET";
const POST: &str = "POST";
const DELETE: &str = "DELETE";

use ModelUse::{Elsewhere, InSession, Named, None as NoModel, Optional, Unseen};
use Repeat::{Compute, Create, Read, SameEnd};

const OTHER: Dialect = Dialect::OTHER;

const INFERENCE: &[Row] = &[
    (POST, "chat/completions", Compute, Dialect::CHAT, Named),
    (GET, "chat/completions", Read, OTHER, NoModel),
    (GET, "chat/completions/chatcmpl-1", Read, OTHER, NoModel),
    (POST, "chat/completions/chatcmpl-1", SameEnd, OTHER, NoModel),
    (DELETE, "chat/completions/chatcmpl-1", SameEnd, OTHER, NoModel),
    (GET, "chat/completions/chatcmpl-1/messages", Read, OTHER, NoModel),
    (POST, "completions", Compute, Dialect::COMPLETIONS, Named),
    (POST, "embeddings", Compute, OTHER, Named),
    (POST, "moderations", Compute, OTHER, Named),
    (POST, "responses", Compute, Dialect::RESPONSES, Named),
    (GET, "responses/resp_1", Read, Dialect::RESPONSES, NoModel),
    (DELETE, "responses/resp_1", SameEnd, OTHER, NoModel),
    (POST, "responses/resp_1/cancel", SameEnd, OTHER, NoModel),
    (GET, "responses/resp_1/input_items", Read, OTHER, NoModel),
    (POST, "responses/compact", Compute, OTHER, Named),
    (POST, "responses/input_tokens", Compute, OTHER, Optional),
    (GET, "models", Read, OTHER, NoModel),
    (GET, "models/org%2Fm", Read, OTHER, NoModel),
    (DELETE, "models/ft:m", SameEnd, OTHER, NoModel),
    (POST, "decisions", Compute, OTHER, Named),
    (POST, "content_provenance_checks", Compute, OTHER, NoModel),
];

const KEPT: &[Row] = &[
    (POST, "conversations", Create, OTHER, NoModel),
    (GET, "conversations/conv_1", Read, OTHER, NoModel),
    (POST, "conversations/conv_1", SameEnd, OTHER, NoModel),
    (DELETE, "conversations/conv_1", SameEnd, OTHER, NoModel),
    (POST, "conversations/conv_1/items", Create, OTHER, NoModel),
    (GET, "conversations/conv_1/items/msg_1", Read, OTHER, NoModel),
    (POST, "files", Create, OTHER, NoModel),
    (GET, "files", Read, OTHER, NoModel),
    (GET, "files/file-1/content", Read, OTHER, NoModel),
    (DELETE, "files/file-1", SameEnd, OTHER, NoModel),
    (POST, "uploads", Create, OTHER, NoModel),
    (POST, "uploads/upload_1/parts", Create, OTHER, NoModel),
    (POST, "uploads/upload_1/complete", Create, OTHER, NoModel),
    (POST, "batches", Create, OTHER, Elsewhere),
    (GET, "batches/batch_1", Read, OTHER, NoModel),
    (POST, "batches/batch_1/cancel", SameEnd, OTHER, NoModel),
    (POST, "vector_stores", Create, OTHER, NoModel),
    (POST, "vector_stores/vs_1", SameEnd, OTHER, NoModel),
    (POST, "vector_stores/vs_1/search", Read, OTHER, NoModel),
    (POST, "vector_stores/vs_1/files", Create, OTHER, NoModel),
    (GET, "vector_stores/vs_1/files/file-1/content", Read, OTHER, NoModel),
    (POST, "vector_stores/vs_1/file_batches", Create, OTHER, NoModel),
    (POST, "vector_stores/vs_1/file_batches/vsfb_1/cancel", SameEnd, OTHER, NoModel),
    (POST, "containers", Create, OTHER, NoModel),
    (POST, "containers/cntr_1/files", Create, OTHER, NoModel),
    (GET, "containers/cntr_1/files/cfile_1/content", Read, OTHER, NoModel),
    (DELETE, "containers/cntr_1/files/cfile_1", SameEnd, OTHER, NoModel),
    (POST, "skills", Create, OTHER, NoModel),
    (POST, "skills/skill_1/versions", Create, OTHER, NoModel),
    (POST, "fine_tuning/jobs", Create, OTHER, Named),
    (POST, "fine_tuning/jobs/ftjob-1/cancel", SameEnd, OTHER, NoModel),
    (POST, "fine_tuning/jobs/ftjob-1/pause", SameEnd, OTHER, NoModel),
    (POST, "fine_tuning/jobs/ftjob-1/resume", SameEnd, OTHER, NoModel),
    (GET, "fine_tuning/jobs/ftjob-1/events", Read, OTHER, NoModel),
    (POST, "fine_tuning/checkpoints/ft:m/permissions", Create, OTHER, NoModel),
    (POST, "fine_tuning/alpha/graders/run", Compute, OTHER, Elsewhere),
    (POST, "fine_tuning/alpha/graders/validate", Compute, OTHER, NoModel),
    (POST, "evals", Create, OTHER, NoModel),
    (POST, "evals/eval_1/runs", Create, OTHER, Elsewhere),
    (POST, "evals/eval_1/runs/evalrun_1", SameEnd, OTHER, NoModel),
    (POST, "evals/eval_1/runs/evalrun_1/cancel", SameEnd, OTHER, NoModel),
    (GET, "evals/eval_1/runs/evalrun_1/output_items", Read, OTHER, NoModel),
    (POST, "chatkit/sessions", Create, OTHER, Elsewhere),
    (POST, "chatkit/sessions/cksess_1/cancel", SameEnd, OTHER, NoModel),
    (GET, "chatkit/threads/cthr_1/items", Read, OTHER, NoModel),
    (POST, "webhook_endpoints", Create, OTHER, NoModel),
    (POST, "webhook_endpoints/we_1/test", Create, OTHER, NoModel),
    (GET, "organization/usage/completions", Read, OTHER, NoModel),
    (POST, "organization/projects", Create, OTHER, Unseen),
];

const MEDIA: &[Row] = &[
    (POST, "audio/speech", Compute, Dialect::SPEECH, Named),
    (POST, "audio/transcriptions", Compute, Dialect::TRANSCRIPTIONS, Named),
    (POST, "audio/translations", Compute, OTHER, Named),
    (POST, "audio/voices", Create, OTHER, NoModel),
    (DELETE, "audio/voices/voice_1", SameEnd, OTHER, NoModel),
    (POST, "audio/voice_consents", Create, OTHER, NoModel),
    (POST, "audio/voice_consents/cons_1", SameEnd, OTHER, NoModel),
    (POST, "images/generations", Compute, Dialect::IMAGES, Named),
    (POST, "images/edits", Compute, Dialect::IMAGES, Named),
    (POST, "images/variations", Compute, OTHER, Named),
    (POST, "videos", Create, OTHER, Named),
    (POST, "videos/video_1/remix", Create, OTHER, Elsewhere),
    (POST, "videos/edits", Create, OTHER, Elsewhere),
    (POST, "videos/characters", Create, OTHER, NoModel),
    (GET, "videos/video_1/content", Read, OTHER, NoModel),
    (DELETE, "videos/video_1", SameEnd, OTHER, NoModel),
];

const SESSIONS: &[Row] = &[
    (GET, "realtime", Read, OTHER, NoModel),
    (GET, "realtime/translations", Read, OTHER, NoModel),
    (POST, "realtime/client_secrets", Create, OTHER, InSession),
    (POST, "realtime/translations/client_secrets", Create, OTHER, InSession),
    (POST, "realtime/sessions", Create, OTHER, InSession),
    (POST, "realtime/transcription_sessions", Create, OTHER, InSession),
    (POST, "realtime/calls", Create, OTHER, InSession),
    (POST, "realtime/translations/calls", Create, OTHER, InSession),
    (POST, "realtime/calls/rtc_1/accept", Create, OTHER, InSession),
    (POST, "realtime/calls/rtc_1/refer", Create, OTHER, NoModel),
    (POST, "realtime/calls/rtc_1/reject", SameEnd, OTHER, NoModel),
    (POST, "realtime/calls/rtc_1/hangup", SameEnd, OTHER, NoModel),
    (POST, "live/sessions", Create, OTHER, Elsewhere),
    (POST, "live/sessions/live_1/hangup", SameEnd, OTHER, NoModel),
    (GET, "live/sessions/live_1/content", Read, OTHER, NoModel),
    (POST, "assistants", Create, OTHER, Named),
    (POST, "assistants/asst_1", SameEnd, OTHER, Optional),
    (POST, "threads", Create, OTHER, NoModel),
    (POST, "threads/thread_1/messages", Create, OTHER, NoModel),
    (POST, "threads/runs", Create, Dialect::THREADS, Named),
    (POST, "threads/thread_1/runs", Create, Dialect::THREADS, Named),
    (POST, "threads/thread_1/runs/run_1/submit_tool_outputs", Create, Dialect::THREADS, NoModel),
    (POST, "threads/thread_1/runs/run_1/cancel", SameEnd, OTHER, NoModel),
    (GET, "threads/thread_1/runs/run_1/steps", Read, OTHER, NoModel),
    (POST, "agents/sessions", Create, Dialect::SESSIONS, Elsewhere),
    (GET, "agents/sessions/s_1/events", Read, Dialect::SESSIONS, NoModel),
];

const ANTHROPIC: &[Row] = &[
    (POST, "messages", Compute, Dialect::MESSAGES, Named),
    (POST, "messages/count_tokens", Compute, OTHER, Named),
    (POST, "messages/batches", Create, OTHER, Elsewhere),
    (GET, "messages/batches", Read, OTHER, NoModel),
    (GET, "messages/batches/msgbatch_1", Read, OTHER, NoModel),
    (DELETE, "messages/batches/msgbatch_1", SameEnd, OTHER, NoModel),
    (POST, "messages/batches/msgbatch_1/cancel", SameEnd, OTHER, NoModel),
    (GET, "messages/batches/msgbatch_1/results", Read, OTHER, NoModel),
    (GET, "sessions/s_1/events/stream", Read, Dialect::SESSIONS, NoModel),
];

#[test]
fn every_operation_that_sdks_call_is_known() {
    for rows in [INFERENCE, KEPT, MEDIA, SESSIONS, ANTHROPIC] {
        for (method, path, repeat, dialect, model) in rows {
            for prefix in ["/v1", "/openai", "/a/b/v1"] {
                let operation = Operation::of(&method.parse().unwrap(), &format!("{prefix}/{path}"));
                let found = (operation.repeat, operation.dialect(), operation.model);
                assert_eq!(found, (*repeat, *dialect, *model), "{method} {prefix}/{path}");
            }
        }
    }
}

/// The end of each dialect's streams, and what stands in the place of one.
#[test]
fn a_stream_of_an_operation_has_an_end_or_stays_open() {
    let of = |path: &str| Operation::of(&Method::POST, path).dialect();
    for path in [
        "chat/completions",
        "completions",
        "responses",
        "messages",
        "audio/speech",
        "audio/transcriptions",
        "images/edits",
        "threads/runs",
    ] {
        assert!(of(path).has_terminal_event() && !of(path).stays_open(), "{path}");
    }
    assert!(of("agents/sessions").stays_open());
    assert!(!of("files").has_terminal_event());
}

/// Azure and Gemini name the model in the path, where it decides; forms and JSON name it in any order.
#[test]
fn the_model_of_an_operation_is_found_where_it_stands() {
    let form = |parts: &[&str]| {
        let parts: String = parts
            .iter()
            .map(|part| format!("--b\r\nContent-Disposition: form-data; name={part}\r\n"))
            .collect();
        format!("{parts}--b--\r\n")
    };
    let (file, model) = ("\"file\"; filename=\"a\"\r\n\r\nxx", "\"model\"\r\n\r\nwhisper");
    for parts in [[file, model], [model, file]] {
        let facts = Facts::read_form(form(&parts).as_bytes(), "b").unwrap();
        assert_eq!(facts.model.as_deref(), Some("whisper"));
    }
    let session = "\"session\"\r\n\r\n{\"type\":\"realtime\",\"model\":\"gpt-realtime\"}";
    for parts in [[session, "\"sdp\"\r\n\r\nv=0"], ["\"sdp\"\r\n\r\nv=0", session]] {
        let mut reader = crate::openai::FormReader::of_session("b");
        reader.feed(form(&parts).as_bytes());
        assert_eq!(reader.finish().unwrap().model.as_deref(), Some("gpt-realtime"));
    }
    for path in ["/openai/deployments/m/chat/completions", "/v1beta/models/m:generateContent"] {
        assert_eq!(crate::openai::path_model(path), Some("m"));
    }
}
