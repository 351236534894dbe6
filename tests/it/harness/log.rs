//! The gateway's log, as it was written.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::sync::Notify;

use super::{Answer, SAFETY};

/// The gateway's log.
#[derive(Clone, Default)]
pub struct LogLines {
    written: Arc<Mutex<Written>>,
    more: Arc<Notify>,
}

#[derive(Default)]
struct Written {
    text: Vec<u8>,
    /// How much of the text has been read.
    read: usize,
    access: Vec<Value>,
}

impl LogLines {
    /// Everything written so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().text.clone()).unwrap()
    }

    /// The access lines so far.
    pub fn access(&self) -> Vec<Value> {
        self.written.lock().unwrap().access.clone()
    }

    /// Waits until `look` finds something in the access lines.
    pub async fn wait_for<T>(&self, mut look: impl FnMut(&[Value]) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let more = self.more.notified();
                if let Some(found) = look(&self.written.lock().unwrap().access) {
                    return found;
                }
                more.await;
            }
        };
        tokio::time::timeout(SAFETY, waiting)
            .await
            .unwrap_or_else(|_| panic!("no such line:\n{}", self.text()))
    }

    /// Waits until there are `count` access lines (more is a failure), and gives the last.
    pub async fn line(&self, count: usize) -> Value {
        self.wait_for(|lines| {
            assert!(lines.len() <= count, "more lines than exchanges: {lines:#?}");
            (lines.len() == count).then(|| lines[count - 1].clone())
        })
        .await
    }

    /// Waits for the line of the exchange that this is the answer of.
    pub async fn line_of(&self, answer: &Answer) -> Value {
        let id = answer.headers["x-request-id"].to_str().unwrap();
        self.wait_for(|lines| lines.iter().rev().find(|line| line["request_id"] == id).cloned()).await
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.written.lock().unwrap();
        let Written { text, read, access } = &mut *written;
        text.extend_from_slice(bytes);
        while let Some(end) = text[*read..].iter().position(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(&text[*read..*read + end]).unwrap();
            *read += end + 1;
            if line["kind"] == "access" {
                access.push(line);
            }
        }
        drop(written);
        self.more.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many attempts an access line tells of; the list is left out where one attempt went well.
pub fn attempts(line: &Value) -> usize {
    line["attempts"].as_array().map_or(1, Vec::len)
}

/// The attempts of an access line that failed, as `target result`, separated by commas.
pub fn failed_attempts(line: &Value) -> String {
    let failed = |attempt: &&Value| !matches!(attempt["result"].as_str(), Some("2xx" | "3xx") | None);
    let attempts = line["attempts"].as_array().into_iter().flatten().filter(failed);
    let words = attempts.map(|attempt| format!("{} {}", text(&attempt["target"]), text(&attempt["result"])));
    words.collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
