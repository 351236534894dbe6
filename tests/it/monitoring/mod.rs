//! Dashboards, alerts and their environment: what is shipped in `deploy` works with what the gateway exports.

mod cramped;
mod environment;
mod environment_toml;
mod files;
mod prometheus;
mod real;
mod rules;
