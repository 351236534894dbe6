//! Sluicegate: a streaming reverse proxy for OpenAI-compatible APIs.
//!
//! This page is the map. `ARCHITECTURE.md` beside the sources says why the program is built this way, and `CONTRIBUTING.md` which
//! files a change touches.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | **Config**, **Snapshot**, **Live** | the configuration as written; its compiled, immutable form, generation N; the `ArcSwap` that points at the current Snapshot |
//! | **Gateway**, **Worker** | what lives as long as the process: live, log, the count of buffered bodies; what lives as long as one worker thread: its pools, its metrics |
//! | **Exchange** | one request and its response, from the first header to the last byte |
//! | **Record**, **Attempt**, **Finished** | what is known of an exchange so far; one try at one candidate; what is known when the exchange is over |
//! | **Caller** | a known client: the owner of client keys, `[client.NAME]` |
//! | **Route → Upstream → Target** | match rule → named pool → one base URL with a weight |
//! | **KeyRing** | the upstream keys of one pool, and which of them are in cooldown |
//! | **Account**, **AccountChoice**, **AccountMap** | the keys and targets that know the same ids; the accounts that one request may be sent to; what is remembered of ids whose account the rule does not give |
//! | **Step**, **Candidate** | one entry of a route's upstreams; a target with a key and a model, for one attempt |
//! | **Limit**, **Counter**, **Admitted** | how much may be used, `[limit.NAME]`; what one subject has used of it; a request that all of its limits admitted, until it is settled |
//! | **Store**, **Sharing**, **Subject** | the connection to Redis; limits that several gateways count together in it; whose counts one value in it has |
//! | **Permit**, **TargetPermit**, **BudgetPermit** | what admission grants to an exchange; a pending request at a target; one request or retry of an upstream's retry budget. Each is given back when it is dropped |
//! | **TargetState** | circuit breaker and pending count of a target; it belongs to the process and outlives reloads |
//! | **Facts**, **Usage**, **Tally** | read from the request; reported by the upstream; measured here |
//! | **Dialect** | how the requests, responses, streams and errors of one API differ from those of the others |
//! | **SecretScanner** | finds keys in texts, in every form in which keys travel |
//! | **Source**, **ResponseObserver**, **Relay** | where a response's bytes come from; what is observed of them; the response body: one state machine from a source's bytes to the client's bytes |
//! | **Handshake**, **OpenTunnel**, **Direction** | a client's request for a WebSocket connection; the connection once an upstream has accepted it; one way in which its frames pass |
//! | **DetachedDispatch** | attempts that do not depend on the client that waits for them |
//! | **ConnectionState** | what the I/O, the driver and the exchanges of one downstream connection share |
//! | **ExchangeHandle** | what an exchange, its response body and the driver share: **Status**, **Progress**, **Abort** |
//! | **Fault**, **Outcome** | a failure that the client can see: a code with arguments; how an exchange ended: who ended it × in which phase |
//!
//! Downstream is the client's side, upstream the provider's. Timeouts are named by the event that they wait for.
//!
//! # Rooms, top to bottom
//!
//! A room uses rooms below it, never above; a test holds that.
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`], [`app`] | argv → configuration → gateway → listeners → signals → drain |
//! | [`listen`], [`admin`], [`simulator`] | accept, handshake, HTTP/1.1 and HTTP/2, drain; the operator's listener; an upstream that follows a script |
//! | [`proxy`] | the one request path: `handle`, the ladder, and its six parts: arrival, intake, admission, attempts, delivery, tunnel |
//! | [`snapshot`], [`exchange`] | the compiled configuration; the record of one exchange, which finishes exactly once |
//! | [`access`], [`accounts`], [`limit`], [`policy`], [`upstream`], [`body`] | who calls; which account knows an id; how much may be used; what may cross; upstream connections, targets and keys; bodies, and what connections and exchanges share |
//! | [`config`], [`telemetry`], [`store`], [`wait_queue`] | `gateway.toml`, one declaration for each key; log queue, access line, metrics, ids; the connection to Redis; the queue in which requests wait their turn |
//! | [`sse`], [`openai`], [`fault`], [`span`], [`key_digest`], [`outline`], [`coding`], [`pause`], [`websocket`], [`money`], [`priority`] | pure: event boundaries; what requests and responses say, by dialect; every failure that a client can see, and its text; time spans as people write them; the digest of a client key; a few members of a JSON text of any length; compressed bodies; pauses of the process, which extend timeouts; WebSocket frames; amounts and prices; which requests go first |
//!
//! # Life of a request
//!
//! 1. [`listen`] accepts in one place and hands the connection to the worker with the fewest open exchanges. The worker does the
//!    handshake and lets hyper parse.
//! 2. [`proxy::handle`] loads the Snapshot once, opens the [`exchange::Exchange`], runs the ladder, and makes a response of the
//!    [`fault::Fault`] if the ladder ends with one.
//! 3. The ladder: arrival (route, client, the client's own timeouts) → intake (a JSON body is read whole, any other body will be
//!    streamed) → admission → attempts (each: a connection, the request, the head of a response, and the decision what becomes of
//!    it, until a response is for the client).
//! 4. Delivery: the [`proxy::Relay`] passes the upstream's frames on as they come and observes them as they go out. It ends the
//!    exchange in one of a few ways, each with a name of its own.
//! 5. The exchange is dropped: its permits are settled, its metrics counted, and its access line written.

pub mod access;
pub mod accounts;
pub mod admin;
pub mod app;
pub mod body;
pub mod cli;
pub mod coding;
pub mod config;
pub mod exchange;
pub mod fault;
pub mod key_digest;
pub mod limit;
pub mod listen;
pub mod money;
pub mod openai;
pub mod outline;
pub mod pause;
pub mod policy;
pub mod priority;
pub mod proxy;
pub mod simulator;
pub mod snapshot;
pub mod span;
pub mod sse;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod wait_queue;
pub mod websocket;
