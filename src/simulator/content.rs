//! What a generated response says: its words, its token counts and the API dialect it is written in.

use super::plan::Plan;

/// The words of every response. Some characters take more than one byte, so that cuts fall inside characters too.
const WORDS: &[&str] = &[
    "The", " sluice", " opens", ",", " and", " the", " words", " flow", " through", " one", " by", " one",
    " —", " nothing", " held", " back", ",", " nothing", " lost", ".",
];
/// The most text of one response, bytes.
const MAX_TEXT: usize = 64 * 1024 * 1024;

/// The API whose response format is generated: it decides the events' names and fields, and the terminal event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
}

/// The fields that every event of one response repeats.
#[derive(Debug)]
pub(super) struct ResponseMeta {
    /// Number of the request, from 1.
    pub(super) number: u64,
    /// The model name, as a JSON string with its quotes.
    pub(super) model: String,
    /// Unix seconds.
    pub(super) created: u64,
}

/// The number of frames in a response; by default one for each word.
pub(super) fn frames(plan: &Plan) -> u64 {
    plan.frames.unwrap_or(WORDS.len() as u64)
}

/// Input and output tokens.
pub(super) fn tokens(plan: &Plan) -> (u64, u64) {
    plan.usage.unwrap_or_else(|| (9, frames(plan)))
}

/// The text of all frames, up to a bound. It needs no escaping in JSON.
pub(super) fn text(plan: &Plan) -> String {
    let padding = "x".repeat(plan.size);
    let mut text = String::new();
    for index in 0..frames(plan) {
        let word = word(index);
        if text.len() + word.len() + padding.len() > MAX_TEXT {
            break;
        }
        text.push_str(word);
        text.push_str(&padding);
    }
    text
}

/// The word of frame `index`.
pub(super) fn word(index: u64) -> &'static str {
    let turn = usize::try_from(index).unwrap_or_default();
    WORDS.get(turn % WORDS.len()).copied().unwrap_or_default()
}
