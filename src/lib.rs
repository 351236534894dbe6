//! Sluicegate: a streaming reverse proxy for OpenAI-compatible APIs.
//!
//! This page is the map. `ARCHITECTURE.md` beside the sources says why things are so.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | **Config**, **Snapshot**, **Live** | what was written; its compiled, immutable form, generation N; the `ArcSwap` that points at the current one |
//! | **Gateway** | what lives as long as the process: live, log, the bound on buffered bodies |
//! | **Exchange** | one request and its answer, first header to last byte |
//! | **Caller** | the owner of a client key, `[client.NAME]` |
//! | **Route → Upstream → Target** | match rule → named pool → one base URL with a weight |
//! | **KeyRing** | the upstream keys of one pool, and which of them rest |
//! | **Step**, **Place**, **Pass** | one upstream of a route's order; a target and a key for one attempt; its place at the target, pending until dropped |
//! | **TargetState** | breaker and pending count of a target; the process', and kept over reloads |
//! | **Facts**, **Usage**, **Tally** | read from the request; told by the upstream; measured here |
//! | **Relay** | the response body of an exchange: one state machine from upstream bytes to the caller's bytes |
//! | **Link**, **Watch** | what the parts of one downstream connection tell one another; the abort handle of one exchange on it |
//! | **Fault**, **Outcome** | a failure the caller can see; how an exchange ended: who ended it × in which phase |
//!
//! Downstream is the caller's side, upstream the provider's. Timeouts are named by the event that they wait for.
//!
//! # Rooms, top to bottom
//!
//! A room uses rooms below it, never above; a test holds that.
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`], [`app`] | argv → configuration → gateway → listeners → signals → drain |
//! | [`listen`], [`admin`], [`simulator`] | accept, handshake, HTTP/1.1 and HTTP/2, drain; the operator's listener; an upstream that follows a script |
//! | [`proxy`] | the one request path: `handle`, the ladder, the relay |
//! | [`snapshot`], [`exchange`] | the compiled configuration; the record of one exchange, which finishes exactly once |
//! | [`access`], [`policy`], [`upstream`], [`body`] | who calls; what may cross; the upstream leg and its pools; what bodies are made of |
//! | [`config`], [`telemetry`] | `gateway.toml`; log queue, access line, ids |
//! | [`sse`], [`openai`], [`fault`], [`span`] | pure: event boundaries; what requests and answers say; every failure a caller can see; time spans as people write them |
//!
//! # Life of a request
//!
//! 1. [`listen`] accepts in one place and hands the connection to the worker with the fewest open exchanges; that one shakes hands and
//!    lets hyper parse.
//! 2. [`proxy::handle`] loads the Snapshot once, opens the [`exchange::Exchange`], calls the ladder, and makes an answer of a
//!    [`fault::Fault`] if one comes back.
//! 3. The ladder: route → authenticate → intake (a JSON body is read whole, anything else will stream) → admit → dispatch (attempts, each a
//!    connection, the request, the head of an answer, and its judgement, until one is for the caller).
//! 4. The [`proxy::Relay`] passes the upstream's frames on as they come, looking at them as they go out. It ends the exchange in one of
//!    a few ways, all told apart, and the exchange writes its line when it is dropped.

pub mod access;
pub mod admin;
pub mod app;
pub mod body;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod fault;
pub mod key_digest;
pub mod listen;
pub mod openai;
pub mod policy;
pub mod proxy;
pub mod simulator;
pub mod snapshot;
pub mod span;
pub mod sse;
pub mod telemetry;
pub mod upstream;
