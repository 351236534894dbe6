//! What once went wrong between one side and the other, or nearly did: each stays shown here.

mod again;
mod endings;
mod framing;
mod goaway;
mod heads;
mod models;
mod redirects;
mod seen;

use serde_json::Value;

/// A stream's first event.
const EVENT: &str =
    "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// The event that says why the model stopped.
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// A stream's last event.
const DONE: &str = "data: [DONE]\n\n";

/// Who ended it, in which phase, with which fault; nothing for none.
fn assert_ended(line: &Value, who: &str, phase: &str, error: &str) {
    let error = if error.is_empty() { Value::Null } else { error.into() };
    assert_eq!(
        (&line["who"], &line["phase"], &line["error"]),
        (&who.into(), &phase.into(), &error),
        "{line}"
    );
}
