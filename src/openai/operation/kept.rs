//! Which operations depend on what one account of the provider keeps.
//!
//! Ids of files, responses, batches and the like are known in the account that made them, and nowhere else. What is in no row below may be sent
//! to any account.
//!
//! Sources: the OpenAI API reference and its OpenAPI description, the operations that openai-python and openai-node call; the Anthropic API
//! reference (ids belong to a workspace).

use http::Method;

use crate::openai::{ids::is_id, segments::Segments};

/// How a request depends on what one account keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Not at all: any account will do.
    None,
    /// Its path, or the list that it asks for, belongs to one account; ids in its body do, too.
    Account,
    /// The request makes something that one account will keep; ids in its body belong to one, too.
    Makes,
    /// The same, if its body has `store: true`.
    MakesIfStored,
    /// Only ids in its body may belong to one.
    Body,
}

/// How a request depends on what one account keeps, and the ids in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<'p> {
    /// How it depends on an account.
    pub need: Need,
    /// The ids in the path, outermost first, as they are written there.
    pub ids: Vec<&'p str>,
}

/// A collection of kept things.
struct Collection {
    /// The segments that its paths begin with, behind any prefix.
    path: &'static [&'static str],
    /// What may follow in the place of an id, and is none.
    words: &'static [&'static str],
    /// What a POST to a path without an id needs.
    post: Need,
}

const fn kept(path: &'static [&'static str]) -> Collection {
    Collection { path, words: &[], post: Need::Makes }
}

/// The first row that fits counts, so a longer path comes before one that it begins with.
static COLLECTIONS: &[Collection] = &[
    Collection { path: &["chat", "completions"], words: &[], post: Need::MakesIfStored },
    // Also with `store: false`: what they seal (`encrypted_content`) opens in one account alone.
    kept(&["responses", "compact"]),
    Collection { path: &["responses", "input_tokens"], words: &[], post: Need::Body },
    kept(&["responses"]),
    kept(&["conversations"]),
    kept(&["messages", "batches"]),
    Collection { path: &["messages", "count_tokens"], words: &[], post: Need::Body },
    // Anthropic. The messages of threads are found at `threads`, which comes first in their path.
    Collection { path: &["messages"], words: &[], post: Need::Body },
    Collection { path: &["audio", "speech"], words: &[], post: Need::Body },
    kept(&["audio", "voices"]),
    kept(&["audio", "voice_consents"]),
    Collection { path: &["images", "edits"], words: &[], post: Need::Body },
    kept(&["realtime", "calls"]),
    kept(&["realtime", "client_secrets"]),
    kept(&["realtime", "sessions"]),
    kept(&["realtime", "transcription_sessions"]),
    kept(&["realtime", "translations", "client_secrets"]),
    kept(&["live", "sessions"]),
    kept(&["files"]),
    kept(&["uploads"]),
    kept(&["batches"]),
    kept(&["vector_stores"]),
    kept(&["containers"]),
    kept(&["fine_tuning", "jobs"]),
    kept(&["fine_tuning", "checkpoints"]),
    Collection { path: &["fine_tuning", "alpha", "graders"], words: &["run", "validate"], post: Need::Body },
    kept(&["evals"]),
    kept(&["videos", "characters"]),
    Collection { path: &["videos"], words: &["edits", "extensions"], post: Need::Makes },
    kept(&["skills"]),
    kept(&["chatkit", "sessions"]),
    kept(&["chatkit", "threads"]),
    kept(&["assistants"]),
    Collection { path: &["threads"], words: &["runs"], post: Need::Makes },
    kept(&["webhook_endpoints"]),
    kept(&["safety", "alerts"]),
    kept(&["safety", "cases"]),
    // Agents: OpenAI's (beta), then Anthropic's.
    kept(&["agents", "sessions"]),
    kept(&["agents", "automations"]),
    kept(&["agents", "environments", "templates"]),
    kept(&["agents", "environments"]),
    kept(&["agents", "vaults"]),
    kept(&["agents"]),
    kept(&["sessions"]),
    kept(&["environments"]),
    kept(&["deployment_runs"]),
    kept(&["dreams"]),
    kept(&["memory_stores"]),
    kept(&["vaults"]),
    kept(&["tunnels"]),
    kept(&["user_profiles"]),
    // Gemini.
    kept(&["cachedContents"]),
];

/// Administration has keys of its own, and its ids are the organisation's.
const ADMINISTRATION: &str = "organization";

impl<'p> Kept<'p> {
    /// Of a request by `method` to `path`, which is canonical, with this `query`.
    pub fn of(method: &Method, path: &'p str, query: Option<&'p str>) -> Self {
        let segments: Vec<&str> = Segments::of(path).collect();
        if segments.contains(&ADMINISTRATION) {
            return Self { need: Need::None, ids: Vec::new() };
        }
        for start in 0..segments.len() {
            let rest = &segments[start..];
            if let Some(collection) = COLLECTIONS.iter().find(|one| rest.starts_with(one.path)) {
                return collection.kept(method, &rest[collection.path.len()..]);
            }
            match rest {
                ["models", model] => return of_model(method, model),
                ["realtime"] | ["realtime", "translations"] => return of_call(query),
                _ => {}
            }
        }
        Self { need: Need::None, ids: Vec::new() }
    }
}

impl Collection {
    /// Of a request to a path in it; `behind` are the segments behind its own.
    fn kept<'p>(&self, method: &Method, behind: &[&'p str]) -> Kept<'p> {
        let is_word = behind.first().is_some_and(|first| self.words.contains(first));
        if behind.is_empty() || is_word {
            let need = match *method {
                Method::POST => self.post,
                // There is no list of them: a WebSocket connection makes them.
                _ if self.path == ["responses"] => Need::Makes,
                // There is nothing to GET there.
                _ if self.post == Need::Body => Need::None,
                _ => Need::Account,
            };
            return Kept { need, ids: Vec::new() };
        }
        // An id, the name of what belongs to it, an id of that, and so on.
        let ids = behind.iter().step_by(2).copied().filter(|id| is_id(id.as_bytes())).collect();
        Kept { need: Need::Account, ids }
    }
}

/// A model that was fine-tuned belongs to an account, others to everybody. Any may be asked for by name in other operations.
fn of_model<'p>(method: &Method, model: &'p str) -> Kept<'p> {
    let is_tuned = model.starts_with("ft:") || model.starts_with("ft%3A") || model.starts_with("ft%3a");
    if is_tuned || *method == Method::DELETE {
        return Kept { need: Need::Account, ids: vec![model] };
    }
    Kept { need: Need::None, ids: Vec::new() }
}

/// A WebSocket connection to a call that was made before.
fn of_call(query: Option<&str>) -> Kept<'_> {
    let call = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("call_id=")));
    match call {
        Some(call) => Kept { need: Need::Account, ids: vec![call] },
        None => Kept { need: Need::None, ids: Vec::new() },
    }
}

#[cfg(test)]
mod tests;
