//! A server's side of the opening handshake (RFC 6455 §4.2).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};

/// The only version that there is.
pub const VERSION: &str = "13";

/// Appended to a client's key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The prefix of the subprotocol item in which browsers send their key (openai-node, `beta/realtime/websocket.ts`).
const KEY_ITEM: &[u8] = b"openai-insecure-api-key.";

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

/// Whether `value` can be a `Sec-WebSocket-Key`: 16 bytes in base64.
pub fn is_key(value: &[u8]) -> bool {
    STANDARD.decode(value).is_ok_and(|bytes| bytes.len() == 16)
}

/// The items of a list in a header.
pub fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// The client key that a subprotocol item holds. Its name is taken in any case, so that no key passes for another subprotocol.
pub fn key_item(item: &[u8]) -> Option<&[u8]> {
    let (name, key) = item.split_at_checked(KEY_ITEM.len())?;
    (name.eq_ignore_ascii_case(KEY_ITEM) && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!is_key(b"dGhlIHNhbXBsZSBub25jZQ") && !is_key(b"") && !is_key(b"c2hvcnQ="));
    }

    #[test]
    fn items_of_a_list() {
        let listed: Vec<_> = items(b" realtime , ,openai-insecure-api-key.sk-1,").collect();
        assert_eq!(listed, [&b"realtime"[..], b"openai-insecure-api-key.sk-1"]);
        let keys: Vec<_> = listed.into_iter().filter_map(key_item).collect();
        assert_eq!(keys, [b"sk-1"]);
        assert_eq!(key_item(b"OpenAI-Insecure-API-Key.sk-1"), Some(&b"sk-1"[..]));
        for other in [&b"openai-insecure-api-key."[..], b"openai-insecure", b""] {
            assert_eq!(key_item(other), None);
        }
    }
}
