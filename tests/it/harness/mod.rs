//! A gateway in this process, a simulated upstream behind it, and clients of both protocols before it.

mod client;
mod frames;
mod gateway;
pub mod log;
mod raw;
mod toml;

use std::time::Duration;

pub use client::{Answer, Client, Sent, Small, authorised, body_of, chat, post, request, send, take, whole};
pub use frames::Frames;
pub use gateway::{Gateway, Keys};
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
