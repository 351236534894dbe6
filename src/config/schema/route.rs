//! Routes and callers.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{BreakerOverride, RetryOverrides, TimeoutOverrides};
use crate::config::secret::KeyHash;

/// `[route.NAME]`: which requests go to which upstream, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// `path = "/v1"`: prefix, matched on a segment boundary, the longest wins; required; canonical (no `//`, dot segments or escapes), "/" for all.
    pub path: String,
    /// `hosts = ["api.example.com"]`: without port, lowercase; default any. A route that names the host wins over one that does not.
    pub hosts: Vec<String>,
    /// `methods = ["POST"]`; default any but CONNECT and TRACE.
    pub methods: Vec<Method>,
    /// `upstreams = ["openai", { upstream = "azure", model = "gpt-4o-eu" }]`: required; the order in which they are asked. None with
    /// the same model twice.
    pub upstreams: Vec<Choice>,
    /// `rewrite = "/v1"`: what the prefix becomes; default: it stays.
    pub rewrite: Option<String>,
    /// `access = "keys" | "open"`; default "keys": a caller is needed. "open" without any `[client]` must be said out loud.
    pub open: bool,
    /// `body_limit = "32MiB"`: of a JSON body, inherited from `[defaults]`; 1 KiB to 1 GiB.
    pub body_limit: u64,
    /// `timeout = { … }`: what this route overrides.
    pub timeout: TimeoutOverrides,
    /// `retry = { … }`: what this route overrides of its first upstream's.
    pub retry: RetryOverrides,
    /// `breaker = { … }`: what this route overrides of each of its upstreams'.
    pub breaker: BreakerOverride,
    /// `heartbeat = "15s"`, in place of its first upstream's; `Some(None)`: written as "off".
    pub heartbeat: Option<Option<Duration>>,
    /// `commit = "headers" | "first_token"`; default: the gateway decides ("first_token" for streams with more than one place to go).
    pub commit: Option<Commit>,
    /// `commit_after = "20s"`: a caller who has waited so long for a stream is answered 200 before there is an answer, and what fails then is
    /// told in the stream; default "off".
    pub commit_after: Option<Duration>,
    /// `delivery = "stream" | "whole"`; default "stream".
    pub delivery: Delivery,
    /// `on_disconnect = "cancel" | "drain"`; default "cancel".
    pub on_disconnect: OnDisconnect,
    /// `next_on_context_length = true`: a request refused with `context_length_exceeded` goes to the next upstream; default false.
    pub next_on_context_length: bool,
    /// `attempt_headers = true`: `x-sluicegate-attempts` and `x-sluicegate-upstream` on answers; default false.
    pub attempt_headers: bool,
    /// `request_headers = { set = { x-a = "1" }, remove = ["x-b"], allow = ["openai-beta"], only = [ … ] }`
    pub request_headers: HeaderRules,
    /// `response_headers = { … }`, the same keys.
    pub response_headers: HeaderRules,
    /// `forward_address = true`: send `x-forwarded-for`, `-proto`, `-host` of our own to the upstream; default false.
    pub forward_address: bool,
}

/// One entry of a route's `upstreams`: `"openai"`, or `{ upstream = "azure", model = "gpt-4o-eu" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The name of an `[upstream]`.
    pub upstream: Arc<str>,
    /// Asked for there instead of the caller's; 1 to 256 printable characters, no quotes or backslashes. Default: the caller's.
    pub model: Option<Arc<str>>,
}

/// When an answer is the caller's, after which no other upstream is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// As soon as its head has come.
    Headers,
    /// When its first token has come.
    FirstToken,
}

/// How the answer of an inference reaches the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As it comes.
    #[default]
    Stream,
    /// When it is complete: one that fails midway is asked for elsewhere. It is held in memory, `body_limit` at most.
    Whole,
}

/// What becomes of an upstream's answer when its caller leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream is told to stop, at once.
    #[default]
    Cancel,
    /// It is read on for its usage, for five minutes and 16 MiB at most.
    Drain,
}

/// What a route does with headers beyond the standing policy. No rule can let a credential through.
#[derive(Debug, Clone, Default)]
pub struct HeaderRules {
    /// Put there, replacing what was.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Taken out.
    pub remove: Vec<HeaderName>,
    /// Let through though the standing policy would strip it (never a credential or a hop-by-hop header).
    pub allow: Vec<HeaderName>,
    /// When not empty: nothing else passes.
    pub only: Vec<HeaderName>,
}

/// `[client.NAME]`: a caller.
#[derive(Debug, Clone)]
pub struct Client {
    /// `key = "sha256:…"`, or `keys = [ … ]` (while one is being replaced): hashes of client keys; required; no hash twice in the file.
    pub keys: Vec<KeyHash>,
    /// `routes = ["openai"]`; default: all.
    pub routes: Option<Vec<Arc<str>>>,
    /// `models = ["gpt-4o*"]`: names, a trailing `*` matches any rest; default: all.
    pub models: Option<Vec<String>>,
}
