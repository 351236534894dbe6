//! The collector in another language, and what it has received.

use serde_json::Value;

use crate::{
    cli::process::Running,
    harness::{CLIENT_KEY, UPSTREAM_KEY},
    sdk::packages,
};

/// A text that is in every prompt of these tests, and must be in no span.
pub const PROMPT: &str = "a-secret-of-the-prompt";

/// A running collector.
pub struct Receiver {
    process: Running,
    pub url: String,
}

/// What it was sent in one request.
pub struct Received(Value);

/// One span.
#[derive(Debug, Clone)]
pub struct Span(Value);

impl Receiver {
    /// One to which nothing may come that holds a key, a prompt, or one of these texts.
    pub fn start(forbidden: &[&str]) -> Self {
        let forbidden = [&[CLIENT_KEY, UPSTREAM_KEY, PROMPT], forbidden].concat().join("\n");
        let mut process = Running::of(packages::otlp_receiver().env("FORBIDDEN", forbidden));
        let url = process.line(|line| line.starts_with("http"));
        Self { process, url }
    }

    /// The next request. What is wrong in any request is a failure.
    pub fn next(&mut self) -> Received {
        let line = self.process.line(|line| line.starts_with('{'));
        let received: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(received["problems"], Value::Array(Vec::new()), "{received:#}");
        Received(received)
    }

    /// The spans of the next request.
    pub fn spans(&mut self) -> Vec<Span> {
        self.next().spans()
    }
}

impl Received {
    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        self.0["spans"].as_array().unwrap().iter().cloned().map(Span).collect()
    }

    /// What was said beside them.
    pub fn get(&self, key: &str) -> &Value {
        &self.0[key]
    }
}

impl Span {
    /// A member, such as `name` or `status`.
    pub fn get(&self, key: &str) -> &Value {
        &self.0[key]
    }

    /// A member that is text.
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap()
    }

    /// An attribute; null if it is not there.
    pub fn attribute(&self, key: &str) -> &Value {
        &self.0["attributes"][key]
    }

    /// The names of its events, in the order of their times.
    pub fn events(&self) -> Vec<&str> {
        let mut events: Vec<_> = self.0["events"].as_object().unwrap().iter().collect();
        // Those at one time in the order in which they are made.
        let order = ["connected", "head", "first_token", "last_frame"];
        events.sort_by_key(|(name, at)| (at.as_u64(), order.iter().position(|known| known == name)));
        events.into_iter().map(|(name, _)| name.as_str()).collect()
    }

    pub fn is_root(&self) -> bool {
        self.0["kind"] == "SERVER"
    }
}
