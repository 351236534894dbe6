//! Sluicegate: a streaming reverse proxy for OpenAI-compatible APIs.
pub mod body;
pub mod config;
pub mod listen;
pub mod proxy;
pub mod snapshot;
