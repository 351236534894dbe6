//! The opening handshake of a WebSocket connection: what a client's request says, and what is passed on of it (RFC 6455 §4).

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    fault::{Fault, Reason},
    websocket::handshake,
};

/// Where a key from the subprotocols goes, so that it is known, searched for and withheld like any other.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The subprotocol that OpenAI's own server selects.
const REALTIME: &[u8] = b"realtime";

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// Subprotocol items that say what a header of that name would (openai-node 7, `src/realtime/websocket.ts`).
static AS_HEADERS: [(&[u8], HeaderName); 2] = [
    (b"openai-organization.", HeaderName::from_static("openai-organization")),
    (b"openai-project.", HeaderName::from_static("openai-project")),
];

/// A client's request for a WebSocket connection.
#[derive(Debug)]
pub(in crate::proxy) struct Handshake {
    key: Option<HeaderValue>,
    /// The subprotocols that the client offers, without keys.
    offered: Vec<Box<[u8]>>,
    has_offer: bool,
    has_origin: bool,
    /// Whether `Connection` names the upgrade.
    is_connected: bool,
}

impl Handshake {
    /// Takes a client's handshake out of a request's head: what is left is an ordinary request, with the key from the subprotocols as
    /// `api-key`. `None`: it is no request for WebSocket.
    pub(in crate::proxy) fn take(head: &mut request::Parts) -> Option<Self> {
        let headers = &mut head.headers;
        if !lists(headers, &header::UPGRADE, b"websocket") {
            return None;
        }
        let is_connected = lists(headers, &header::CONNECTION, b"upgrade");
        headers.remove(header::UPGRADE);
        let mut offered = Vec::new();
        let lines: Vec<_> = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        for item in lines.iter().flat_map(|line| handshake::items(line.as_bytes())) {
            match handshake::key_item(item) {
                None => offered.push(item.into()),
                Some(key) => {
                    if let Ok(mut key) = HeaderValue::from_bytes(key) {
                        key.set_sensitive(true);
                        headers.append(API_KEY, key);
                    }
                }
            }
        }
        Some(Self {
            key: headers.get(header::SEC_WEBSOCKET_KEY).cloned(),
            offered,
            has_offer: !lines.is_empty(),
            has_origin: headers.contains_key(header::ORIGIN),
            is_connected,
        })
    }

    /// Checks the handshake in this head.
    ///
    /// # Errors
    /// It is not the handshake of RFC 6455 §4.2.1.
    pub(in crate::proxy) fn check(&self, head: &request::Parts) -> Result<(), Fault> {
        if head.method != Method::GET {
            return Err(Fault::BadRequest(Reason::HandshakeMethod));
        }
        if !self.is_connected {
            return Err(Fault::BadRequest(Reason::HandshakeConnection));
        }
        if !only(&head.headers, &header::SEC_WEBSOCKET_KEY, handshake::is_key) {
            return Err(Fault::BadRequest(Reason::HandshakeKey));
        }
        let is_known = |version: &[u8]| version == handshake::VERSION.as_bytes();
        if !only(&head.headers, &header::SEC_WEBSOCKET_VERSION, is_known) {
            return Err(Fault::BadRequest(Reason::HandshakeVersion));
        }
        Ok(())
    }

    /// Whether the client is a web page, which sees nothing of a response that refuses its handshake (WHATWG WebSockets, "fail the WebSocket
    /// connection"), but can be accepted first.
    pub(in crate::proxy) fn is_of_page(&self) -> bool {
        self.has_origin && self.has_offer && self.selected().is_some()
    }

    /// Makes the headers of a request those of a handshake. `allowed` are the withheld headers that the route allows, and `is_secret` finds
    /// the client's key. The offer of extensions is left out, so that messages are not compressed and can be read.
    pub(in crate::proxy) fn to_upstream(
        &self,
        headers: &mut HeaderMap,
        allowed: &[HeaderName],
        is_secret: impl Fn(&[u8]) -> bool,
    ) {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(handshake::VERSION));
        if let Some(key) = &self.key {
            headers.insert(header::SEC_WEBSOCKET_KEY, key.clone());
        }
        let passes = |item: &[u8]| {
            let withheld = AS_HEADERS.iter().find(|(prefix, _)| {
                item.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
            });
            withheld.is_none_or(|(_, name)| allowed.contains(name)) && !is_secret(item)
        };
        let offered: Vec<&[u8]> =
            self.offered.iter().map(|item| &**item).filter(|item| passes(item)).collect();
        if let Ok(offered) = HeaderValue::from_bytes(&offered.join(&b", "[..]))
            && !offered.is_empty()
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
    }

    /// Checks the headers of an upstream's response of 101.
    ///
    /// # Errors
    /// The upstream's handshake is not that of RFC 6455 §4.2.2.
    pub(in crate::proxy) fn check_answer(&self, headers: &HeaderMap) -> Result<(), Fault> {
        if !lists(headers, &header::UPGRADE, b"websocket") {
            return Err(Fault::UnusableHead(Reason::AnswerSwitchesElsewhere));
        }
        let expected = self.accept();
        if !only(headers, &header::SEC_WEBSOCKET_ACCEPT, |accept| accept == expected.as_bytes()) {
            return Err(Fault::UnusableHead(Reason::AnswerAccept));
        }
        if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(Fault::UnusableHead(Reason::AnswerExtension));
        }
        Ok(())
    }

    /// Makes headers those of the response of 101. A client that has offered subprotocols gets one of them: the upstream's choice, or the
    /// usual one if the upstream makes none.
    pub(in crate::proxy) fn to_client(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
        if let Ok(accept) = HeaderValue::try_from(self.accept()) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let chosen = headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        let chosen = chosen.filter(|chosen| self.offers(chosen.as_bytes()));
        if let Some(chosen) = chosen.or_else(|| HeaderValue::from_bytes(self.selected()?).ok()) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
    }

    fn offers(&self, item: &[u8]) -> bool {
        self.offered.iter().any(|offered| **offered == *item)
    }

    fn selected(&self) -> Option<&'static [u8]> {
        self.offers(REALTIME).then_some(REALTIME)
    }

    fn accept(&self) -> String {
        handshake::accept(self.key.as_ref().map(HeaderValue::as_bytes).unwrap_or_default())
    }
}

/// The models that the query of a WebSocket request names: `model` (OpenAI), `deployment` (Azure).
pub(in crate::proxy) fn models_in(query: &str) -> impl Iterator<Item = String> + '_ {
    let named =
        query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| names_model(name));
    named.map(|(_, value)| {
        let value = value.replace('+', " ");
        percent_decode_str(&value).decode_utf8_lossy().into_owned()
    })
}

/// The query of a WebSocket request with `model` in place of the model that it names.
pub(in crate::proxy) fn with_model(query: &str, model: &str) -> String {
    let model = utf8_percent_encode(model, NON_ALPHANUMERIC).to_string();
    let replaced = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if names_model(name) => format!("{name}={model}"),
        _ => pair.to_owned(),
    });
    replaced.collect::<Vec<_>>().join("&")
}

fn names_model(name: &str) -> bool {
    // Azure does not look at case.
    let name = percent_decode_str(name).collect::<Vec<u8>>();
    name.eq_ignore_ascii_case(b"model") || name.eq_ignore_ascii_case(b"deployment")
}

/// Whether a header of this name lists `item`, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, item: &[u8]) -> bool {
    let mut all = headers.get_all(name).iter().flat_map(|line| handshake::items(line.as_bytes()));
    all.any(|listed| listed.eq_ignore_ascii_case(item))
}

/// Whether there is one header of this name, and it is right.
fn only(headers: &HeaderMap, name: &HeaderName, is_right: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|value| is_right(value.as_bytes().trim_ascii())) && values.next().is_none()
}
