//! Dashboards, alerts and their environment: what is shipped in `deploy` works with what the gateway exports.

mod environment;
mod files;
mod prometheus;
mod real;
