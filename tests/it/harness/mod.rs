//! A gateway in this process, a simulated upstream behind it, and clients of both protocols in front of it.
//!
//! # How to write a test
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_reset_in_a_stream_is_logged() {
//!     let upstream = simulator().await;
//!     upstream.queue(cut_off(Head::event_stream(), b"data: {}\n\n", Cut::Reset));
//!     let gateway = Gateway::before(&upstream, Http::One, "");
//!     let response = chat(gateway.address(), Http::Two).await;
//!     assert!(response.text().starts_with("data: {}\n\n"));
//!     let line = gateway.log.line_of(&response).await;
//!     assert_eq!((&line["who"], &line["phase"]), (&"upstream".into(), &"stream".into()));
//!     gateway.finish(1).await;
//! }
//! ```
//!
//! **Start a gateway.** [`Gateway::before`] has one route, `/v1`, to one simulator, and one client whose key is [`CLIENT_KEY`]. Retries and
//! the circuit breaker are off. [`Gateway::with`] adds lines to its tables ([`Keys`]). For other upstreams, listeners or routes, build the
//! file with [`GatewayToml`] and start it with [`Gateway::start`]; [`Gateway::reload`] replaces it. To test the binary instead, write the
//! file into a `Folder` and start it with `cli::process::Running`. A gateway listens on a free port: [`Gateway::address`].
//!
//! **Write the upstream's response.** A script is a list of steps: a head, body bytes, waits, a cut. Queue it at the simulator before the
//! request; without one, the simulator generates a response. `src/simulator/mod.rs` lists the steps and the generated responses. For HTTP/2
//! frames that no well-made server sends, use [`Frames`].
//!
//! **Send the request.** [`chat`] posts a streamed chat request. [`post`], [`authorised`] and [`request`] begin a request; [`send`] sends it
//! on a connection of its own, [`Client`] on one that is kept. [`Raw`] sends bytes that no well-made client would send.
//!
//! **Wait for an event,** never for a time: at the simulator for a record, or for a number of connections (`Simulator::record`, `wait_for`,
//! `wait_for_connections`); at the gateway for an access line ([`LogLines::line`], [`LogLines::line_of`]). A `Gate` in a script holds the
//! upstream until the test has seen what it needs. [`safely`] fails a wait that never ends.
//!
//! **End the test** with [`Gateway::finish`]: it drains the gateway and checks that nothing is held and that each exchange has one access
//! line. A gateway that is dropped stops at once.

mod client;
mod frames;
mod gateway;
pub mod link;
pub mod log;
mod raw;
pub mod redis;
mod toml;

use std::time::Duration;

pub use client::{
    Answer, Client, Pending, Sent, Small, authorised, body_of, chat, post, request, send, take, whole,
};
pub use frames::Frames;
pub use gateway::{COUNTED, COUNTED_TABLE, Gateway, Keys};
pub use log::LogLines;
pub use raw::Raw;
use sluicegate::simulator::{Cut, Head, Options, Protocols, Script, Simulator, Step};
pub use toml::GatewayToml;

/// What the caller presents.
pub const CLIENT_KEY: &str = "sk-sg-client-key-0123456789abcdefABCDEF";
/// What the simulator must be given.
pub const UPSTREAM_KEY: &str = "sk-upstream-key-9876543210fedcbaFEDCBA";

/// A wait that lasts longer than this has failed. Nothing is measured with it.
pub const SAFETY: Duration = Duration::from_secs(60);

/// A chat request, streamed.
pub const CHAT: &str =
    r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

/// A protocol, on either leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// Both.
pub const BOTH: [Http; 2] = [Http::One, Http::Two];

/// Every way to cut an answer off.
pub const CUTS: [Cut; 4] = [Cut::Reset, Cut::Close, Cut::ChunkError, Cut::NoError];

/// A plain simulator that insists on [`UPSTREAM_KEY`].
pub async fn simulator() -> Simulator {
    simulator_with(Options::default()).await
}

/// The same with other options; both protocols, HTTP/2 by prior knowledge.
pub async fn simulator_with(options: Options) -> Simulator {
    let options =
        Options { require_key: Some(UPSTREAM_KEY.to_owned()), protocols: Protocols::Both, ..options };
    Simulator::start(options).await.unwrap()
}

/// An answer with this head and body, cut off at its end.
pub fn cut_off(head: Head, body: &[u8], cut: Cut) -> Script {
    Script::new(vec![Step::Head(head), Step::Send(body.to_vec().into()), Step::Cut(cut)])
}

/// Waits for `what`, but not for ever.
pub async fn safely<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SAFETY, what).await.unwrap_or_else(|_| panic!("this never happened"))
}

/// Does the same for all of these, so many at a time.
pub async fn all_of<T, F>(these: impl IntoIterator<Item = T>, at_once: usize, each: impl Fn(T) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = tokio::task::JoinSet::new();
    for this in these {
        if running.len() == at_once {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(each(this));
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}
