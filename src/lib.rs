//! Sluicegate: a streaming reverse proxy for OpenAI-compatible APIs.
pub mod access;
pub mod body;
pub mod config;
pub mod proxy;
pub mod snapshot;
pub mod telemetry;
