//! Debian's Chromium on the live page: `see.mjs` drives it.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/live/see.mjs");

/// The sizes and colour schemes that each state is looked at in.
const LOOKS: [(u32, u32, &str); 4] =
    [(1280, 800, "dark"), (1280, 800, "light"), (390, 844, "dark"), (390, 844, "light")];

/// What is done with a page.
pub struct Plan {
    url: String,
    steps: Vec<Value>,
}

/// What a page has shown.
pub struct Page {
    /// The values of the expressions, in their order.
    pub values: Vec<Value>,
    /// Whatever the browser found wrong.
    pub problems: Vec<String>,
    /// The requests of the page: method and URL.
    pub requests: Vec<String>,
}

/// The folder for pictures, which people look at.
fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("live");
    fs::create_dir_all(&folder).unwrap();
    folder
}

impl Plan {
    /// Opens the live page of this admin listener.
    pub fn of(admin: SocketAddr, fragment: &str) -> Self {
        let plan = Self { url: format!("http://{admin}/live#{fragment}"), steps: Vec::new() };
        plan.step(json!({ "size": [1280, 800], "scheme": "dark" }))
    }

    pub fn step(mut self, step: Value) -> Self {
        self.steps.push(step);
        self
    }

    /// Waits until the expression is true.
    pub fn wait(self, expression: &str) -> Self {
        self.step(json!({ "wait": expression }))
    }

    /// Puts the value of the expression into the result.
    pub fn run(self, expression: &str) -> Self {
        self.step(json!({ "run": expression }))
    }

    /// Presses a key.
    pub fn key(self, key: &str) -> Self {
        self.step(json!({ "key": key }))
    }

    /// Waits until the page has its state.
    pub fn begun(self) -> Self {
        self.wait("document.querySelector('#connection')?.textContent === 'live' && document.querySelector('#headline dd') !== null")
    }

    /// Takes pictures in all sizes and colour schemes; the page must not be wider than the window in any.
    pub fn pictures(mut self, name: &str) -> Self {
        for (width, height, scheme) in LOOKS {
            let file = folder().join(format!("{name}-{width}-{scheme}.png"));
            self = self
                .step(json!({ "size": [width, height], "scheme": scheme }))
                .wait("document.documentElement.scrollWidth <= innerWidth")
                .step(json!({ "picture": file }));
        }
        self.step(json!({ "size": [1280, 800], "scheme": "dark" }))
    }

    /// Does it all.
    pub async fn see(self) -> Page {
        let plan = json!({ "url": self.url, "steps": self.steps }).to_string();
        let output = tokio::task::spawn_blocking(move || {
            let mut node = Command::new("node");
            node.arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut node = node.spawn().expect("node is missing: tests/setup installs what the tests need");
            node.stdin.take().unwrap().write_all(plan.as_bytes()).unwrap();
            node.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        let texts = |name: &str| {
            seen[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        Page {
            values: seen["values"].as_array().unwrap().clone(),
            problems: texts("problems"),
            requests: texts("requests"),
        }
    }
}
