//! The gateway as callers and upstreams see it: real sockets on both sides, the whole program between.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and only test functions themselves are exempt in clippy.toml"
)]
#![expect(unreachable_pub, reason = "a test binary exports nothing")]

mod accounts;
mod agreement;
mod benches;
mod browser;
mod cli;
mod clients;
mod docs;
mod endings;
mod exactness;
mod faults;
mod folder;
mod harness;
mod keys;
mod languages;
mod layers;
mod limits;
mod live;
mod metrics;
mod models;
mod money;
mod monitoring;
mod online;
mod operator;
mod packaging;
mod properties;
mod providers;
mod queue;
mod realtime;
mod redis;
mod regressions;
mod reload;
mod requests;
mod resources;
mod routing;
mod sdk;
mod service;
mod siege;
mod silence;
mod smoke;
mod streaming;
mod supply;
mod tls;
mod tolerance;
mod traces;
mod tracing;
mod truncation;
mod usage;
mod validation;
mod websocket;
