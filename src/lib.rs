//! Sluicegate: a streaming reverse proxy for OpenAI-compatible APIs.
pub mod access;
pub mod admin;
pub mod app;
pub mod body;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod fault;
pub mod listen;
pub mod openai;
pub mod policy;
pub mod proxy;
pub mod simulator;
pub mod snapshot;
pub mod sse;
pub mod telemetry;
pub mod upstream;
