//! Sluicegate: a streaming reverse proxy for OpenAI-compatible APIs.

pub mod cli;
pub mod config;
