//! Streams of images, speech, transcriptions and runs of threads, as rows.
//!
//! What the events look like: OpenAI API reference, "Image generation streaming events", "Speech streaming events", "Transcription
//! streaming events", "Assistant stream events"; members that neither side reads are left out.

use sluicegate::simulator::{Cut, Script, Step};

use super::{
    row::{ABORTED, Ask, Error, Expected, Row, broken, hello, row},
    rows::{ERROR, IN_STREAM, TRUNCATED},
};
use crate::faults::rig::{stream, stream_then};

const PARTIAL_IMAGE: &str = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"partial_image_index\":0,\"b64_json\":\"Hello\"}\n\n";
const IMAGE: &str = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"\"}\n\n";
pub(super) const SPARE_IMAGE: &str = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"from the spare one\"}\n\n";

const SPEECH: &str = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"Hello\"}\n\n";
pub(super) const SPARE_SPEECH: &str =
    "data: {\"type\":\"speech.audio.delta\",\"audio\":\"from the spare one\"}\n\n";
pub(super) const SPEECH_DONE: &str = "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"total_tokens\":3}}\n\n";

const TRANSCRIPT: &str = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hello\"}\n\n";
pub(super) const SPARE_TRANSCRIPT: &str =
    "data: {\"type\":\"transcript.text.delta\",\"delta\":\"from the spare one\"}\n\n";
pub(super) const TRANSCRIPT_DONE: &str = "data: {\"type\":\"transcript.text.done\",\"text\":\"all\"}\n\n";

const RUN_CREATED: &str =
    "event: thread.run.created\ndata: {\"id\":\"run_1\",\"object\":\"thread.run\",\"status\":\"queued\"}\n\n";
const MESSAGE: &str = "event: thread.message.delta\ndata: {\"id\":\"msg_1\",\"object\":\"thread.message.delta\",\"delta\":{\"content\":[{\"index\":0,\"type\":\"text\",\"text\":{\"value\":\"Hello\",\"annotations\":[]}}]}}\n\n";
pub(super) const SPARE_MESSAGE: &str = "event: thread.message.delta\ndata: {\"id\":\"msg_1\",\"object\":\"thread.message.delta\",\"delta\":{\"content\":[{\"index\":0,\"type\":\"text\",\"text\":{\"value\":\"from the spare one\",\"annotations\":[]}}]}}\n\n";
pub(super) const RUN_COMPLETED: &str = "event: thread.run.completed\ndata: {\"id\":\"run_1\",\"object\":\"thread.run\",\"status\":\"completed\"}\n\n";
pub(super) const THREAD_DONE: &str = "event: done\ndata: [DONE]\n\n";

pub(super) fn rows() -> Vec<Row> {
    [images(), speech(), transcriptions(), runs()].into_iter().flatten().collect()
}

fn images() -> Vec<Row> {
    [
        whole("images", || vec![stream(&[PARTIAL_IMAGE, IMAGE])]),
        cut("images-cut", || vec![stream_then(&[PARTIAL_IMAGE], Step::Cut(Cut::Reset))]),
        cut("images-ended-too-soon", || vec![stream(&[PARTIAL_IMAGE])]),
        error_event("images-error-event", || vec![stream(&[PARTIAL_IMAGE, ERROR])]),
    ]
    .map(|row| row.asks(Ask::ImagesStream))
    .into()
}

fn transcriptions() -> Vec<Row> {
    [
        whole("transcription", || vec![stream(&[TRANSCRIPT, TRANSCRIPT_DONE])]),
        cut("transcription-cut", || vec![stream_then(&[TRANSCRIPT], Step::Cut(Cut::Reset))]),
        cut("transcription-ended-too-soon", || vec![stream(&[TRANSCRIPT])]),
        error_event("transcription-error-event", || vec![stream(&[TRANSCRIPT, ERROR])]),
    ]
    .map(|row| row.asks(Ask::TranscriptionStream))
    .into()
}

/// The SDKs hand on the bytes of speech: only an abort makes them raise.
fn speech() -> Vec<Row> {
    let aborted = Error { python: "RemoteProtocolError", ..ABORTED };
    let error_event = broken("Hello", IN_STREAM, aborted);
    let cut = |name, answers| twice(name, answers, broken("Hello", TRUNCATED, aborted));
    [
        whole("speech", || vec![stream(&[SPEECH, SPEECH_DONE])]),
        cut("speech-cut", || vec![stream_then(&[SPEECH], Step::Cut(Cut::Reset))]),
        cut("speech-ended-too-soon", || vec![stream(&[SPEECH])]),
        // The upstream's own event and its orderly end are forwarded as they are.
        twice(
            "speech-error-event",
            || vec![stream(&[SPEECH, ERROR])],
            Expected { error: None, ..error_event },
        ),
    ]
    .map(|row| row.asks(Ask::SpeechStream))
    .into()
}

fn runs() -> Vec<Row> {
    [
        whole("run", || vec![stream(&[RUN_CREATED, MESSAGE, RUN_COMPLETED, THREAD_DONE])]),
        whole("run-without-done", || vec![stream(&[RUN_CREATED, MESSAGE, RUN_COMPLETED])]),
        cut("run-cut", || vec![stream_then(&[RUN_CREATED, MESSAGE], Step::Cut(Cut::Reset))]),
        error_event("run-error-event", || vec![stream(&[RUN_CREATED, MESSAGE, ERROR])]),
    ]
    .map(|row| row.asks(Ask::ThreadRunStream))
    .into()
}

fn whole(name: &'static str, answers: fn() -> Vec<Script>) -> Row {
    twice(name, answers, hello(&[]))
}

fn cut(name: &'static str, answers: fn() -> Vec<Script>) -> Row {
    twice(name, answers, broken("Hello", TRUNCATED, Error::event(TRUNCATED)))
}

fn error_event(name: &'static str, answers: fn() -> Vec<Script>) -> Row {
    twice(name, answers, broken("Hello", IN_STREAM, Error::event("broken")))
}

/// `delivery = "whole"` is about inference, so these streams are passed on as they come on either route.
fn twice(name: &'static str, answers: fn() -> Vec<Script>, expected: Expected) -> Row {
    row(name, answers, expected, expected)
}
