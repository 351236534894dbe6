//! Heartbeats between the events of streams, as rows: no SDK sees anything of them, whether the events carry ids or not.
//!
//! The Python SDKs keep the last id and dispatch an empty event at each blank line after it (`SSEDecoder.decode` in `_streaming.py`).

use std::time::Duration;

use sluicegate::simulator::{Script, Step};

use super::row::{Ask, COMPLETED, CREATED, Row, hello, row};
use crate::faults::rig::{DONE, HELLO, ROLE, streamed};

const ROLE_1: &str =
    "id: 1\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const HELLO_2: &str = "id: 2\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const DONE_3: &str = "id: 3\ndata: [DONE]\n\n";

const CREATED_1: &str = "id: 1\nevent: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hello\"}\n\n";

const MESSAGE_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n";
const MESSAGE_START_1: &str = "id: 1\nevent: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n";
const BLOCK: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n";
pub(super) const SPARE_BLOCK: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"from the spare one\"}}\n\n";
pub(super) const MESSAGE_DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n";
pub(super) const MESSAGE_STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

pub(super) fn rows() -> Vec<Row> {
    let among = |name, answers: fn() -> Vec<Script>, ask: Ask, events| {
        row(name, answers, hello(&[]), hello(&[])).asks(ask).heartbeats(events)
    };
    vec![
        among("heartbeats", || slowly(&[ROLE, HELLO], &[DONE]), Ask::ChatStream, 2),
        among("heartbeats-and-ids", || slowly(&[ROLE_1, HELLO_2], &[DONE_3]), Ask::ChatStream, 2),
        among("responses-heartbeats", || slowly(&[CREATED, DELTA], &[COMPLETED]), Ask::ResponsesStream, 3),
        among(
            "responses-heartbeats-and-ids",
            || slowly(&[CREATED_1, DELTA], &[COMPLETED]),
            Ask::ResponsesStream,
            3,
        ),
        among(
            "messages-heartbeats",
            || slowly(&[MESSAGE_START, BLOCK], &[MESSAGE_DELTA, MESSAGE_STOP]),
            Ask::MessagesStream,
            4,
        ),
        among(
            "messages-heartbeats-and-ids",
            || slowly(&[MESSAGE_START_1, BLOCK], &[MESSAGE_DELTA, MESSAGE_STOP]),
            Ask::MessagesStream,
            4,
        ),
    ]
}

/// A stream with silence for one heartbeat after its beginning.
fn slowly(beginning: &[&'static str], rest: &[&'static str]) -> Vec<Script> {
    let mut steps = streamed(beginning);
    steps.push(Step::Wait(Duration::from_millis(1500)));
    steps.extend(rest.iter().map(|event| Step::Send((*event).into())));
    vec![Script::new(steps)]
}
