//! Ephemeral keys of the Realtime API: secrets of short life that a program gets for a browser.
//!
//! Sources: OpenAI API reference, Realtime "Client secrets", "Sessions" (legacy) and "Calls"; the translation endpoints as openai-python and
//! openai-node call them.

use std::ops::Range;

use http::Method;

use super::{
    json::{self, Leaf, NotJson, Object, Shape, Value},
    segments::Segments,
};

/// A secret in a response that issues one.
#[derive(Clone, PartialEq, Eq)]
pub struct EphemeralSecret {
    /// The JSON text of its value, quotes included, as offsets in the response.
    pub range: Range<usize>,
    /// The secret.
    pub value: String,
    /// When it ends, in seconds since 1970.
    pub expires_at: Option<u64>,
}

/// Whether a request by `method` to `path` asks for an ephemeral key.
pub fn issues_ephemeral_keys(method: &Method, path: &str) -> bool {
    let [group, before, last] = last_segments(path);
    let is_one = matches!(
        (group, before, last),
        (_, "realtime", "client_secrets" | "sessions" | "transcription_sessions")
            | ("realtime", "translations", "client_secrets")
    );
    is_one && *method == Method::POST
}

/// Whether a request by `method` to `path` may be made with an ephemeral key: a WebSocket connection, or a WebRTC call and its end.
pub fn takes_ephemeral_keys(method: &Method, path: &str) -> bool {
    let last = last_segments(path);
    match *method {
        Method::GET => matches!(last, [_, _, "realtime"] | [_, "realtime", "translations"]),
        Method::POST => {
            let begins_call =
                matches!(last, [_, "realtime", "calls"] | ["realtime", "translations", "calls"]);
            begins_call || matches!(last, ["calls", _, "hangup"])
        }
        _ => false,
    }
}

/// The secrets in the response to a request that [`issues_ephemeral_keys`]: `value`, `client_secret.value`, `session.client_secret.value`. `None`
/// if it is no JSON object.
pub fn ephemeral_secrets(body: &[u8]) -> Option<Vec<EphemeralSecret>> {
    let mut response = Response::default();
    match json::read(body, &mut response) {
        Ok(Shape::Object) => Some(response.secrets()),
        Ok(Shape::Null | Shape::Other) | Err(NotJson { .. }) => None,
    }
}

/// The last three segments of a path; empty where it has fewer.
fn last_segments(path: &str) -> [&str; 3] {
    let mut segments = Segments::of(path).rev();
    let mut next = || segments.next().unwrap_or_default();
    let (last, before) = (next(), next());
    [next(), before, last]
}

/// How many objects may be around a secret.
const DEPTH: u8 = 2;

/// An object that may hold a secret.
#[derive(Default)]
struct Response {
    /// Objects around it.
    depth: u8,
    values: Vec<(Range<usize>, String)>,
    expires_at: Option<u64>,
    inner: Vec<EphemeralSecret>,
}

impl Response {
    fn secrets(self) -> Vec<EphemeralSecret> {
        let Self { values, expires_at, mut inner, .. } = self;
        inner.extend(values.into_iter().map(|(range, value)| EphemeralSecret { range, value, expires_at }));
        inner
    }

    fn nested(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        let mut nested = Self { depth: self.depth + 1, ..Self::default() };
        value.object(&mut nested)?;
        self.inner.extend(nested.secrets());
        Ok(())
    }
}

impl Object for Response {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"value" => {
                let begin = value.begins_at();
                if let Leaf::Text(text) = value.leaf()? {
                    self.values.push((begin..value.ends_at(), text.into_owned()));
                }
                Ok(())
            }
            b"expires_at" => {
                self.expires_at = value.leaf()?.count();
                Ok(())
            }
            b"client_secret" | b"session" if self.depth < DEPTH => self.nested(value),
            _ => value.skip(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_issue_or_take_ephemeral_keys_or_neither() {
        let (get, post) = (Method::GET, Method::POST);
        for path in [
            "/v1/realtime/client_secrets",
            "/openai/v1/realtime/client_secrets",
            "/v1/realtime/translations/client_secrets",
            "/v1/realtime/sessions",
            "/realtime/transcription_sessions/",
        ] {
            assert!(issues_ephemeral_keys(&post, path) && !issues_ephemeral_keys(&get, path), "{path}");
            assert!(!takes_ephemeral_keys(&post, path), "{path}");
        }
        for path in ["/v1/realtime", "/openai/realtime", "/v1/realtime/translations"] {
            assert!(takes_ephemeral_keys(&get, path) && !takes_ephemeral_keys(&post, path), "{path}");
        }
        for path in
            ["/v1/realtime/calls", "/v1/realtime/translations/calls", "/v1/realtime/calls/rtc_1/hangup"]
        {
            assert!(takes_ephemeral_keys(&post, path) && !issues_ephemeral_keys(&post, path), "{path}");
        }
        for path in ["/v1/chat/completions", "/v1/live/sessions", "/v1/realtime/calls/rtc_1/accept", ""] {
            let any = [&get, &post]
                .map(|method| takes_ephemeral_keys(method, path) || issues_ephemeral_keys(method, path));
            assert_eq!(any, [false; 2], "{path}");
        }
    }

    #[test]
    fn every_secret_of_a_response_is_found_with_its_end() {
        let read = |body: &str| {
            let found = ephemeral_secrets(body.as_bytes())?;
            let shown = |secret: &EphemeralSecret| {
                (body[secret.range.clone()].to_owned(), secret.value.clone(), secret.expires_at)
            };
            Some(found.iter().map(shown).collect::<Vec<_>>())
        };
        let one = |text: &str, value: &str, end| (text.to_owned(), value.to_owned(), end);
        let ga = r#"{"value": "ek_1","expires_at":7,"session":{"id":"sess_1","client_secret":{"value":"ek_2","expires_at":8}}}"#;
        assert_eq!(read(ga), Some(vec![one("\"ek_2\"", "ek_2", Some(8)), one("\"ek_1\"", "ek_1", Some(7))]));
        let legacy = r#"{"id":"sess_1","client_secret":{"expires_at":9,"value":"\u0065k_1"},"value":null}"#;
        assert_eq!(read(legacy), Some(vec![one(r#""\u0065k_1""#, "ek_1", Some(9))]));
        assert_eq!(read(r#"{"id":"sess_1","client_secret":null}"#), Some(Vec::new()));
        assert_eq!((read("[]"), read("{\"value\":\"ek_1\"")), (None, None));
    }
}
