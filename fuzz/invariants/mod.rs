//! What must hold for any input, as functions of bytes: each `check` panics when something does not.
//!
//! `tests/it/properties.rs` calls them with generated input in every test run, the targets beside this folder under libFuzzer.

pub mod coding;
pub mod config;
pub mod facts;
pub mod form;
pub mod headers;
pub mod outline;
pub mod path;
pub mod scanner;
pub mod splice;
pub mod validate;
pub mod websocket;

mod find;
mod json;
mod sse;
