//! Images, audio and files that a request has within its JSON, as base64.

use std::sync::LazyLock;

use memchr::{memchr, memmem::Finder};

/// Bytes of text from which a member `data` counts as an attachment.
const SHORTEST: usize = 256;

/// Where an attachment of either form begins. Prepared once, because that takes as long as the search through a KiB.
static DATA_URL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b";base64,"));
static DATA_MEMBER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"data\""));

/// What a request has attached.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Number of attachments.
    pub count: u64,
    /// Bytes of them, as they are written.
    pub bytes: u64,
}

impl Attached {
    /// Finds attachments in a JSON body: `data:` URLs with base64 (RFC 2397), and long texts in a member `data` (OpenAI's `input_audio`, Anthropic's
    /// sources of type `base64`). What looks like one and is part of a text is counted too: this is for estimates only.
    pub fn find(body: &[u8]) -> Self {
        let mut found = Self::default();
        found.count_texts(body, &DATA_URL, |rest| Some(rest));
        found.count_texts(body, &DATA_MEMBER, |rest| {
            let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            // A URL has been counted.
            value.strip_prefix(b"\"").filter(|text| !text.starts_with(b"data:"))
        });
        found
    }

    /// Adds the texts that begin after each `mark`, as far as `text` finds one there. Each byte is read once: what is between a mark and the end of its
    /// text is not searched for more.
    fn count_texts(&mut self, body: &[u8], mark: &Finder<'_>, text: impl Fn(&[u8]) -> Option<&[u8]>) {
        let mut rest = body;
        while let Some(at) = mark.find(rest) {
            rest = rest.get(at + mark.needle().len()..).unwrap_or_default();
            let Some(text) = text(rest) else { continue };
            let Some(length) = memchr(b'"', text) else { return };
            if length >= SHORTEST {
                self.count += 1;
                self.bytes += length as u64;
            }
            rest = text.get(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> (u64, u64) {
        let Attached { count, bytes } = Attached::find(body.as_bytes());
        (count, bytes)
    }

    #[test]
    fn images_audio_and_files_are_found_in_the_forms_of_all_apis() {
        let data = "A".repeat(1_000);
        let url = format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#);
        assert_eq!(found(&url), (1, 1_000));
        let audio = format!(r#"{{"type":"input_audio","input_audio":{{"data":"{data}","format":"wav"}}}}"#);
        assert_eq!(found(&audio), (1, 1_000));
        let anthropic = format!(
            r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data" : "{data}"}}}}"#
        );
        assert_eq!(found(&anthropic), (1, 1_000));
        assert_eq!(found(&format!("[{url},{audio},{anthropic}]")), (3, 3_000));
        let file =
            format!(r#"{{"type":"file","file":{{"file_data":"data:application/pdf;base64,{data}"}}}}"#);
        assert_eq!(found(&file), (1, 1_000));
        let once = format!(r#"{{"data":"data:image/png;base64,{data}"}}"#);
        assert_eq!(found(&once), (1, 1_000));
    }

    #[test]
    fn text_is_no_attachment() {
        for body in [
            r#"{"messages":[{"role":"user","content":"what is ;base64, and what is \"data\"?"}]}"#,
            r#"{"data":"short"}"#,
            r#"{"data":17}"#,
            r#"{"data""#,
            r#"{"url":"data:image/png;base64,AAAA"}"#,
            "",
            "\"data\":\"",
        ] {
            assert_eq!(found(body), (0, 0), "{body}");
        }
    }

    #[test]
    fn each_byte_is_read_a_bounded_number_of_times() {
        // Were the rest of the text read for each mark, these would take minutes.
        for mark in [";base64,", "\"data\":\"data:", "\"data\" ", "\"data\":\""] {
            assert!(found(&mark.repeat((4 << 20) / mark.len())).1 < 4 << 20);
        }
    }
}
