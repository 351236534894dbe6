//! What a queue holds, in `/status` and `/limits`.

use serde_json::{Map, Value, json};

use crate::{priority::Priority, wait_queue::QueueView};

/// The requests that wait: how many, their bytes, the longest wait, and how many of each priority.
pub(super) fn shown(view: &QueueView) -> Value {
    let by_priority: Map<String, Value> = Priority::ALL
        .iter()
        .zip(view.by_priority)
        .map(|(priority, count)| (priority.name().to_owned(), count.into()))
        .collect();
    json!({
        "depth": view.depth(),
        "bytes": view.bytes,
        "oldest_wait_ms": view.oldest.map(|oldest| u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX)),
        "by_priority": by_priority,
    })
}
