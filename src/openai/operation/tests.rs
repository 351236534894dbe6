use super::*;

fn of(method: &str, path: &str) -> Endpoint {
    Operation::of(&method.parse().unwrap(), path).endpoint
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
fn an_encoded_slash_is_part_of_its_segment() {
    assert_eq!(of("GET", "/v1/models/org%2Fm"), Endpoint::Models);
    assert_eq!(of("GET", "/v1/responses%2Fr"), Endpoint::Other);
    assert_eq!(of("POST", "/v1/chat%2Fcompletions"), Endpoint::Other);
    assert_eq!(of("POST", "/v1/x%2Fresponses"), Endpoint::Other);
}

fn repeat(method: &str, path: &str) -> Repeat {
    Operation::of(&method.parse().unwrap(), path).repeat
}

const COMPUTING: &[&str] = &[
    "chat/completions",
    "completions",
    "embeddings",
    "moderations",
    "responses",
    "responses/compact",
    "responses/input_tokens",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
    "images/variations",
    "messages",
    "messages/count_tokens",
    "fine_tuning/alpha/graders/run",
    "rerank",
];

const READING: &[&str] = &[
    "models",
    "models/org%2Fm",
    "responses/resp_1",
    "responses/resp_1/input_items",
    "chat/completions/chatcmpl-1/messages",
    "conversations/conv_1/items",
    "files/file-1/content",
    "batches/batch_1",
    "vector_stores/vs_1/files",
    "fine_tuning/jobs/ftjob-1/events",
    "threads/thread_1/runs/run_1",
    "videos/video_1",
    "messages/batches/msgbatch_1/results",
    "organization/usage/completions",
    "no/such/thing",
];

const DELETING: &[&str] =
    &["files/file-1", "models/ft:gpt-4o", "responses/resp_1", "threads/thread_1/messages/msg_1"];

const SETTING: &[&str] = &[
    "responses/resp_1/cancel",
    "batches/batch_1/cancel",
    "messages/batches/msgbatch_1/cancel",
    "conversations/conv_1",
    "chat/completions/chatcmpl-1",
    "vector_stores/vs_1",
    "vector_stores/vs_1/file_batches/vsfb_1/cancel",
    "fine_tuning/jobs/ftjob-1/pause",
    "evals/eval_1/runs/evalrun_1",
    "threads/thread_1/runs/run_1/cancel",
    "realtime/calls/rtc_1/hangup",
];

const CREATING: &[&str] = &[
    "files",
    "uploads",
    "uploads/upload_1/parts",
    "uploads/upload_1/complete",
    "batches",
    "messages/batches",
    "conversations",
    "conversations/conv_1/items",
    "vector_stores",
    "vector_stores/vs_1/files",
    "containers",
    "fine_tuning/jobs",
    "evals/eval_1/runs",
    "threads",
    "threads/runs",
    "threads/thread_1/messages",
    "threads/thread_1/runs",
    "threads/thread_1/runs/run_1/submit_tool_outputs",
    "videos",
    "skills",
    "realtime/calls",
    "realtime/client_secrets",
    "agents",
    "sessions/sess_1/events",
    "organization/projects",
    "no/such/thing",
];

#[test]
fn what_may_be_repeated_follows_from_what_a_request_does() {
    use Repeat::{Compute, Create, Read, SameEnd};
    let table = [
        (Compute, "POST", COMPUTING),
        (Read, "GET", READING),
        (SameEnd, "DELETE", DELETING),
        (SameEnd, "POST", SETTING),
        (Create, "POST", CREATING),
    ];
    for (class, method, paths) in table {
        for path in paths {
            for prefix in ["/v1", "/openai", "/openai/deployments/m"] {
                assert_eq!(repeat(method, &format!("{prefix}/{path}")), class, "{method} {path}");
            }
        }
    }
    assert_eq!(repeat("POST", "/v1/vector_stores/vs_1/search"), Read);
    for (method, class) in [("HEAD", Read), ("OPTIONS", Read), ("PUT", SameEnd), ("PATCH", Create)] {
        assert_eq!(repeat(method, "/v1/no/such/thing"), class, "{method}");
    }
}

#[test]
fn a_request_that_leaves_something_behind_is_no_plain_inference() {
    let after = |path: &str, body: &str| {
        let facts = Facts::read(body.as_bytes()).unwrap();
        Operation::of(&Method::POST, path).repeat(Some(&facts))
    };
    let (chat, responses, messages) = ("/v1/chat/completions", "/v1/responses", "/v1/messages");
    for (path, body) in [
        (chat, r#"{"store":false,"tools":[{"type":"function"}],"previous_response_id":"x"}"#),
        (chat, r#"{"tools":[{"type":"browser_search"}],"background":true}"#),
        (responses, r#"{"input":"x"}"#),
        (responses, r#"{"store":false,"background":false,"conversation":null,"previous_response_id":null}"#),
        (
            responses,
            r#"{"tools":[{"type":"function"},{"type":"custom"},{"name":"x"},{"type":"local_shell"}]}"#,
        ),
        (responses, r#"{"tools":[{"type":"computer_use_preview"}],"metadata":{"store":true}}"#),
        (messages, r#"{"tools":[{"name":"x"},{"type":"web_search_20250305"}],"mcp_servers":[]}"#),
        ("/v1/images/generations", r#"{"background":"transparent","store":true}"#),
    ] {
        assert_eq!(after(path, body), Repeat::Compute, "{path} {body}");
    }
    for (path, body) in [
        (chat, r#"{"store":true}"#),
        (chat, r#"{"tools":[{"type":"mcp"}]}"#),
        (responses, r#"{"store":true}"#),
        (responses, r#"{"background":true}"#),
        (responses, r#"{"conversation":"conv_1"}"#),
        (responses, r#"{"conversation":{"id":"conv_1"}}"#),
        (responses, r#"{"previous_response_id":"resp_1"}"#),
        (responses, r#"{"tools":[{"type":"function"},{"type":"web_search"}]}"#),
        (responses, r#"{"tools":[{"server_url":"x","type":"mcp"}]}"#),
        (messages, r#"{"mcp_servers":[{"url":"x"}]}"#),
        (messages, r#"{"tools":[{"type":"mcp_toolset"}]}"#),
    ] {
        assert_eq!(after(path, body), Repeat::Create, "{path} {body}");
    }
    for path in [chat, responses, messages] {
        assert_eq!(Operation::of(&Method::POST, path).repeat(None), Repeat::Create, "{path}, unread");
    }
    assert_eq!(Operation::of(&Method::POST, "/v1/audio/speech").repeat(None), Repeat::Compute);
}

#[test]
fn a_model_is_required_only_where_the_request_runs_one() {
    let required = |path: &&str| Operation::of(&Method::POST, path).model.is_required();
    for path in [
        "/v1/chat/completions",
        "/v1/audio/transcriptions",
        "/v1/batches",
        "/v1/messages/batches",
        "/v1/threads/t/runs",
        "/v1/realtime/sessions",
        "/v1/fine_tuning/jobs",
        "/v1/no/such/thing",
    ] {
        assert!(required(&path), "{path}");
    }
    for path in [
        "/v1/responses/r/cancel",
        "/v1/responses/input_tokens",
        "/v1/files",
        "/v1/uploads",
        "/v1/uploads/u/parts",
        "/v1/uploads/u/complete",
        "/v1/batches/b/cancel",
        "/v1/conversations",
        "/v1/conversations/c/items",
        "/v1/vector_stores",
        "/v1/containers",
        "/v1/threads",
        "/v1/threads/t/messages",
    ] {
        assert!(!required(&path), "{path}");
    }
    let required = |method| Operation::of(&method, "/v1/no/such/thing").model.is_required();
    assert!(!required(Method::GET) && !required(Method::DELETE) && required(Method::PUT));
}

#[test]
fn the_part_of_the_operation_is_what_sdks_append() {
    for (path, part) in [
        ("/v1/chat/completions", Some("/chat/completions")),
        ("/chat/completions", Some("/chat/completions")),
        ("/v1/v1/responses/resp_1", Some("/responses/resp_1")),
        ("/openai/deployments/gpt/chat/completions", Some("/chat/completions")),
        ("/v1/threads/t_1/messages", Some("/threads/t_1/messages")),
        ("/v1/models/", Some("/models/")),
        ("/v1", None),
        ("/", None),
        ("", None),
        ("models", None),
    ] {
        assert_eq!(operation_part(path), part, "{path}");
    }
}

#[test]
fn an_endpoint_is_no_base() {
    for (path, base) in [
        ("/v1/chat/completions", Some("/v1")),
        ("/v1/chat/completions/", Some("/v1")),
        ("/v1/messages", Some("/v1")),
        ("/v1/models", Some("/v1")),
        ("/responses", Some("")),
        ("/models", None),
        ("/hf-inference/models/gpt/v1", None),
        ("/v1", None),
    ] {
        assert_eq!(base_of_endpoint(path), base, "{path}");
    }
}
