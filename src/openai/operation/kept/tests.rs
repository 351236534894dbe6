//! Every operation that today's SDKs call, with what it needs. A row is METHOD, path, need, and the ids in the path.

use http::Method;

use super::*;
use Need::{Account, Body, Makes, MakesIfStored};

const POST: Method = Method::POST;
const GET: Method = Method::GET;
const DELETE: Method = Method::DELETE;

const NOTHING: Need = Need::None;

static ROWS: &[(Method, &str, Need, &[&str])] = &[
    (POST, "chat/completions", MakesIfStored, &[]),
    (GET, "chat/completions", Account, &[]),
    (GET, "chat/completions/chatcmpl-12", Account, &["chatcmpl-12"]),
    (POST, "chat/completions/chatcmpl-12", Account, &["chatcmpl-12"]),
    (DELETE, "chat/completions/chatcmpl-12", Account, &["chatcmpl-12"]),
    (GET, "chat/completions/chatcmpl-12/messages", Account, &["chatcmpl-12"]),
    (POST, "completions", NOTHING, &[]),
    (POST, "embeddings", NOTHING, &[]),
    (POST, "moderations", NOTHING, &[]),
    (POST, "responses", Makes, &[]),
    (GET, "responses", Makes, &[]),
    (GET, "responses/resp_12", Account, &["resp_12"]),
    (DELETE, "responses/resp_12", Account, &["resp_12"]),
    (POST, "responses/resp_12/cancel", Account, &["resp_12"]),
    (GET, "responses/resp_12/input_items", Account, &["resp_12"]),
    (POST, "responses/compact", Makes, &[]),
    (POST, "responses/input_tokens", Body, &[]),
    (POST, "conversations", Makes, &[]),
    (GET, "conversations/conv_12", Account, &["conv_12"]),
    (POST, "conversations/conv_12", Account, &["conv_12"]),
    (DELETE, "conversations/conv_12", Account, &["conv_12"]),
    (POST, "conversations/conv_12/items", Account, &["conv_12"]),
    (GET, "conversations/conv_12/items", Account, &["conv_12"]),
    (GET, "conversations/conv_12/items/msg_12", Account, &["conv_12", "msg_12"]),
    (DELETE, "conversations/conv_12/items/msg_12", Account, &["conv_12", "msg_12"]),
    (GET, "realtime", NOTHING, &[]),
    (GET, "realtime?model=gpt-realtime", NOTHING, &[]),
    (GET, "realtime?a=b&call_id=rtc_12", Account, &["rtc_12"]),
    (GET, "realtime/translations", NOTHING, &[]),
    (POST, "realtime/client_secrets", Makes, &[]),
    (POST, "realtime/translations/client_secrets", Makes, &[]),
    (POST, "realtime/sessions", Makes, &[]),
    (POST, "realtime/transcription_sessions", Makes, &[]),
    (POST, "realtime/calls", Makes, &[]),
    (POST, "realtime/calls/rtc_12/accept", Account, &["rtc_12"]),
    (POST, "realtime/calls/rtc_12/reject", Account, &["rtc_12"]),
    (POST, "realtime/calls/rtc_12/refer", Account, &["rtc_12"]),
    (POST, "realtime/calls/rtc_12/hangup", Account, &["rtc_12"]),
    (POST, "live/sessions", Makes, &[]),
    (GET, "live/sessions/live_12/attach", Account, &["live_12"]),
    (POST, "live/sessions/live_12/fork", Account, &["live_12"]),
    (GET, "live/sessions/live_12/content", Account, &["live_12"]),
    (POST, "audio/speech", Body, &[]),
    (POST, "audio/transcriptions", NOTHING, &[]),
    (POST, "audio/translations", NOTHING, &[]),
    (POST, "audio/voices", Makes, &[]),
    (DELETE, "audio/voices/voice_12", Account, &["voice_12"]),
    (POST, "audio/voice_consents", Makes, &[]),
    (GET, "audio/voice_consents", Account, &[]),
    (GET, "audio/voice_consents/cons_12", Account, &["cons_12"]),
    (POST, "images/generations", NOTHING, &[]),
    (POST, "images/edits", Body, &[]),
    (POST, "images/variations", NOTHING, &[]),
    (GET, "models", NOTHING, &[]),
    (GET, "models/gpt-4o", NOTHING, &[]),
    (GET, "models/ft:gpt-4o:org::id", Account, &["ft:gpt-4o:org::id"]),
    (DELETE, "models/ft:gpt-4o:org::id", Account, &["ft:gpt-4o:org::id"]),
    (POST, "files", Makes, &[]),
    (GET, "files", Account, &[]),
    (GET, "files/file-12", Account, &["file-12"]),
    (DELETE, "files/file-12", Account, &["file-12"]),
    (GET, "files/file-12/content", Account, &["file-12"]),
    (POST, "uploads", Makes, &[]),
    (POST, "uploads/upload_12/parts", Account, &["upload_12"]),
    (POST, "uploads/upload_12/complete", Account, &["upload_12"]),
    (POST, "uploads/upload_12/cancel", Account, &["upload_12"]),
    (POST, "batches", Makes, &[]),
    (GET, "batches", Account, &[]),
    (GET, "batches/batch_12", Account, &["batch_12"]),
    (POST, "batches/batch_12/cancel", Account, &["batch_12"]),
    (POST, "vector_stores", Makes, &[]),
    (GET, "vector_stores", Account, &[]),
    (POST, "vector_stores/vs_1234", Account, &["vs_1234"]),
    (POST, "vector_stores/vs_1234/search", Account, &["vs_1234"]),
    (POST, "vector_stores/vs_1234/files", Account, &["vs_1234"]),
    (GET, "vector_stores/vs_1234/files/file-12/content", Account, &["vs_1234", "file-12"]),
    (POST, "vector_stores/vs_1234/file_batches", Account, &["vs_1234"]),
    (POST, "vector_stores/vs_1234/file_batches/vsfb_12/cancel", Account, &["vs_1234", "vsfb_12"]),
    (GET, "vector_stores/vs_1234/file_batches/vsfb_12/files", Account, &["vs_1234", "vsfb_12"]),
    (POST, "containers", Makes, &[]),
    (GET, "containers/cntr_12", Account, &["cntr_12"]),
    (POST, "containers/cntr_12/files", Account, &["cntr_12"]),
    (GET, "containers/cntr_12/files/cfile_12/content", Account, &["cntr_12", "cfile_12"]),
    (POST, "fine_tuning/jobs", Makes, &[]),
    (GET, "fine_tuning/jobs", Account, &[]),
    (POST, "fine_tuning/jobs/ftjob-12/cancel", Account, &["ftjob-12"]),
    (GET, "fine_tuning/jobs/ftjob-12/events", Account, &["ftjob-12"]),
    (GET, "fine_tuning/jobs/ftjob-12/checkpoints", Account, &["ftjob-12"]),
    (POST, "fine_tuning/checkpoints/ft:a:b::c/permissions", Account, &["ft:a:b::c"]),
    (DELETE, "fine_tuning/checkpoints/ft:a:b::c/permissions/cp_123", Account, &["ft:a:b::c", "cp_123"]),
    (POST, "fine_tuning/alpha/graders/run", Body, &[]),
    (POST, "fine_tuning/alpha/graders/validate", Body, &[]),
    (POST, "evals", Makes, &[]),
    (GET, "evals/eval_12", Account, &["eval_12"]),
    (POST, "evals/eval_12/runs", Account, &["eval_12"]),
    (POST, "evals/eval_12/runs/evalrun_1/cancel", Account, &["eval_12", "evalrun_1"]),
    (POST, "evals/eval_12/runs/evalrun_1", Account, &["eval_12", "evalrun_1"]),
    (
        GET,
        "evals/eval_12/runs/evalrun_1/output_items/outputitem_1",
        Account,
        &["eval_12", "evalrun_1", "outputitem_1"],
    ),
    (POST, "videos", Makes, &[]),
    (GET, "videos", Account, &[]),
    (POST, "videos/characters", Makes, &[]),
    (GET, "videos/characters/char_12", Account, &["char_12"]),
    (POST, "videos/edits", Makes, &[]),
    (POST, "videos/extensions", Makes, &[]),
    (POST, "videos/video_12/remix", Account, &["video_12"]),
    (GET, "videos/video_12/content", Account, &["video_12"]),
    (POST, "skills", Makes, &[]),
    (GET, "skills/skill_12/content", Account, &["skill_12"]),
    (POST, "skills/skill_12/versions", Account, &["skill_12"]),
    // A number is not known to be of one account.
    (GET, "skills/skill_12/versions/2/content", Account, &["skill_12"]),
    (POST, "chatkit/sessions", Makes, &[]),
    (POST, "chatkit/sessions/cksess_12/cancel", Account, &["cksess_12"]),
    (GET, "chatkit/threads/cthr_12/items", Account, &["cthr_12"]),
    (POST, "assistants", Makes, &[]),
    (POST, "assistants/asst_12", Account, &["asst_12"]),
    (POST, "threads", Makes, &[]),
    (POST, "threads/runs", Makes, &[]),
    (POST, "threads/thread_12/messages", Account, &["thread_12"]),
    (GET, "threads/thread_12/messages/msg_12", Account, &["thread_12", "msg_12"]),
    (POST, "threads/thread_12/runs", Account, &["thread_12"]),
    (POST, "threads/thread_12/runs/run_12/submit_tool_outputs", Account, &["thread_12", "run_12"]),
    (GET, "threads/thread_12/runs/run_12/steps/step_12", Account, &["thread_12", "run_12", "step_12"]),
    (POST, "agents", Makes, &[]),
    (POST, "agents/sessions", Makes, &[]),
    (GET, "agents/sessions/sess_12/events", Account, &["sess_12"]),
    (POST, "agents/automations/auto_12/invocations", Account, &["auto_12"]),
    (GET, "agents/environments/env_12/files/file-12", Account, &["env_12", "file-12"]),
    (POST, "agents/environments/templates", Makes, &[]),
    (GET, "agents/vaults/vault_12/credentials", Account, &["vault_12"]),
    (GET, "agents/agent_12", Account, &["agent_12"]),
    (POST, "decisions", NOTHING, &[]),
    (POST, "content_provenance_checks", NOTHING, &[]),
    (GET, "safety/alerts/alert_12", Account, &["alert_12"]),
    (GET, "safety/cases/case_12", Account, &["case_12"]),
    (POST, "webhook_endpoints", Makes, &[]),
    (POST, "webhook_endpoints/we_123/rotate_secret", Account, &["we_123"]),
    (GET, "webhook_event_types", NOTHING, &[]),
    (GET, "organization/projects/proj_12/users", NOTHING, &[]),
    (GET, "projects/proj_12/roles", NOTHING, &[]),
    // Anthropic.
    (POST, "messages", Body, &[]),
    (POST, "messages?beta=true", Body, &[]),
    (POST, "messages/count_tokens", Body, &[]),
    (POST, "messages/batches", Makes, &[]),
    (GET, "messages/batches", Account, &[]),
    (GET, "messages/batches/msgbatch_12", Account, &["msgbatch_12"]),
    (POST, "messages/batches/msgbatch_12/cancel", Account, &["msgbatch_12"]),
    (GET, "messages/batches/msgbatch_12/results", Account, &["msgbatch_12"]),
    (POST, "sessions/sesn_12/events", Account, &["sesn_12"]),
    (GET, "sessions/sesn_12/threads/thr_12/stream", Account, &["sesn_12", "thr_12"]),
    (GET, "memory_stores/memstore_12/memories/mem_12", Account, &["memstore_12", "mem_12"]),
    (GET, "environments/env_12/work/poll", Account, &["env_12"]),
    // Compatible servers.
    (POST, "rerank", NOTHING, &[]),
    (POST, "tokenize", NOTHING, &[]),
    (POST, "models/gemini-3:generateContent", NOTHING, &[]),
    (POST, "api/chat", NOTHING, &[]),
];

#[test]
fn every_operation_needs_what_its_row_says_behind_any_prefix() {
    for (method, path, need, ids) in ROWS {
        let (path, query) = path.split_once('?').map_or((*path, None), |(path, query)| (path, Some(query)));
        for prefix in ["/v1/", "/", "/openai/v1/", "/team/a/v1/", "/openai/deployments/gpt-4o/"] {
            let path = format!("{prefix}{path}");
            let kept = Kept::of(method, &path, query);
            assert_eq!((kept.need, &kept.ids[..]), (*need, *ids), "{method} {path}");
        }
    }
}

#[test]
fn every_row_of_the_table_is_reached() {
    for collection in COLLECTIONS {
        let path = format!("/v1/{}/x_123456", collection.path.join("/"));
        assert_eq!(Kept::of(&GET, &path, None).ids, ["x_123456"], "{path}");
    }
}
