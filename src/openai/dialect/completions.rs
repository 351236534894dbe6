//! Legacy completions: like chat completions, with `text` in place of `delta`.

use super::{super::ordinary::Ordinary, chat, definition::Definition};

pub(super) static DEFINITION: Definition =
    Definition { name: "Completions", ordinary: Ordinary::completions, ..chat::LIKE_CHAT };
