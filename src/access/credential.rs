//! The credentials in a request.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

/// Looking up a constant name costs less than looking up text.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// The key that a request presents. Wiped from memory when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    key: Zeroizing<Vec<u8>>,
    in_query: bool,
}

impl Credential {
    /// The key itself: visible ASCII when it came in a header, any bytes when it came in the query.
    pub fn bytes(&self) -> &[u8] {
        &self.key
    }

    /// Whether the key was only in the query. Such a key authenticates nobody, but is kept from reaching the upstream.
    pub fn in_query(&self) -> bool {
        self.in_query
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("in_query", &self.in_query).finish_non_exhaustive()
    }
}

/// Why a request's credentials are rejected. No message contains the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A proxy on the way may have used the other one.
    #[error("the request carries two different credentials")]
    Different,
    /// RFC 9110 section 5.3: only list fields may occur more than once, and `Authorization` is not one.
    #[error("the request carries more than one Authorization header")]
    Repeated,
    /// Another scheme than `Bearer`, or nothing that can be a key.
    #[error("the Authorization header is not of the form `Bearer KEY`")]
    Authorization,
    /// Empty, or not of visible ASCII.
    #[error("the {0} header does not contain a key")]
    Key(&'static str),
}

/// Finds the credential of a request: `Authorization: Bearer`, `x-api-key` (Anthropic), `api-key` (Azure OpenAI), and those
/// query parameters that [`is_credential_parameter`]. The same key in several places is one credential. `None` if there is no key.
///
/// # Errors
/// The request has two different credentials, or a malformed one.
pub fn credentials(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Credential>, Refused> {
    let mut found = None;
    if let Some(key) = bearer(headers)? {
        agree(&mut found, key)?;
    }
    for (place, name) in [(X_API_KEY, "x-api-key"), (API_KEY, "api-key")] {
        for value in headers.get_all(place) {
            agree(&mut found, key(value.as_bytes()).ok_or(Refused::Key(name))?)?;
        }
    }
    let in_query = found.is_none();
    for key in query.into_iter().flat_map(query_keys) {
        agree(&mut found, key)?;
    }
    Ok(found.map(|key| Credential { key: Zeroizing::new(key.into_owned()), in_query }))
}

/// Everything in a request that may be a key, also if [`credentials`] rejects it: none of it may be logged.
pub fn presented<'r>(headers: &'r HeaderMap, query: Option<&'r str>) -> impl Iterator<Item = Cow<'r, [u8]>> {
    let places = [AUTHORIZATION, X_API_KEY, API_KEY, X_GOOG_API_KEY];
    let values = places.into_iter().flat_map(|name| headers.get_all(name));
    values.flat_map(|value| words(value.as_bytes())).chain(query.into_iter().flat_map(query_keys))
}

/// The last word of a value, and for `Basic` (RFC 7617) also the user name and the password in it.
fn words(value: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let value = value.trim_ascii();
    let word = value.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    let is_basic = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
    let login = is_basic.then(|| STANDARD.decode(word).ok()).flatten();
    let parts: Vec<_> = login
        .iter()
        .flat_map(|login| login.split(|byte| *byte == b':'))
        .map(|part| Cow::Owned(part.to_vec()))
        .collect();
    std::iter::once(Cow::Borrowed(word)).chain(parts).filter(|word| !word.is_empty())
}

/// Whether a query parameter of this (decoded) name holds a credential by its meaning: `key` (Google), `api-key` (Azure) and
/// its spellings, `access_token` (RFC 6750 section 2.3).
pub fn is_credential_parameter(name: &[u8]) -> bool {
    ["key", "api-key", "api_key", "apikey", "x-api-key", "access_token"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

fn agree<'r>(found: &mut Option<Cow<'r, [u8]>>, key: impl Into<Cow<'r, [u8]>>) -> Result<(), Refused> {
    let key = key.into();
    match found {
        Some(other) if *other != key => Err(Refused::Different),
        _ => {
            *found = Some(key);
            Ok(())
        }
    }
}

/// RFC 6750 section 2.1; the scheme's name is case-insensitive (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::Repeated);
    }
    let (scheme, rest) = value.as_bytes().split_first_chunk::<6>().ok_or(Refused::Authorization)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") || !rest.starts_with(b" ") {
        return Err(Refused::Authorization);
    }
    key(rest).map(Some).ok_or(Refused::Authorization)
}

/// Visible ASCII, white space around it taken off.
fn key(value: &[u8]) -> Option<&[u8]> {
    let key = value.trim_ascii();
    (!key.is_empty() && key.iter().all(u8::is_ascii_graphic)).then_some(key)
}

/// The decoded values of credential parameters that are not empty.
fn query_keys(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name: Cow<'_, [u8]> = percent_decode(name.as_bytes()).into();
        (is_credential_parameter(&name) && !value.is_empty()).then(|| percent_decode(value.as_bytes()).into())
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn of(pairs: &[(&'static str, &str)], query: Option<&str>) -> Result<Option<(String, bool)>, Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = credentials(&headers, query)?;
        Ok(found.map(|found| (String::from_utf8(found.bytes().to_vec()).unwrap(), found.in_query())))
    }

    fn in_header(key: &str) -> Result<Option<(String, bool)>, Refused> {
        Ok(Some((key.to_owned(), false)))
    }

    #[test]
    fn each_place_is_read() {
        assert_eq!(of(&[], None), Ok(None));
        assert_eq!(of(&[("authorization", "Bearer sk-1")], None), in_header("sk-1"));
        assert_eq!(of(&[("authorization", "bEARER   sk-1 ")], None), in_header("sk-1"));
        assert_eq!(of(&[("x-api-key", "sk-1")], None), in_header("sk-1"));
        assert_eq!(of(&[("api-key", "sk-1")], None), in_header("sk-1"));
        for query in ["key=sk%2D1", "a=b&API%2dkey=sk-1", "api_key=sk-1&key=", "access_token=sk-1"] {
            assert_eq!(of(&[], Some(query)), Ok(Some(("sk-1".to_owned(), true))), "{query}");
        }
        assert_eq!(of(&[], Some("keys=sk-1&monkey=2&key")), Ok(None));
    }

    #[test]
    fn one_key_in_several_places_is_one_and_two_keys_are_refused() {
        let bearer = ("authorization", "Bearer sk-1");
        assert_eq!(
            of(&[bearer, ("api-key", "sk-1"), ("x-api-key", "sk-1")], Some("key=sk-1")),
            in_header("sk-1")
        );
        assert_eq!(of(&[("api-key", "sk-1"), ("api-key", "sk-1")], None), in_header("sk-1"));
        for other in [("api-key", "sk-2"), ("x-api-key", "Sk-1")] {
            assert_eq!(of(&[bearer, other], None), Err(Refused::Different));
        }
        assert_eq!(of(&[("api-key", "sk-1"), ("api-key", "sk-2")], None), Err(Refused::Different));
        assert_eq!(of(&[bearer], Some("key=sk-2")), Err(Refused::Different));
        assert_eq!(of(&[], Some("key=sk-1&api-key=sk-2")), Err(Refused::Different));
        assert_eq!(of(&[bearer, bearer], None), Err(Refused::Repeated));
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic dTpw",
            "Bearersk-1",
            "Bearer a b",
            "Bearer é",
            "sk-1",
            "Bearer\tsk-1",
        ] {
            assert_eq!(of(&[("authorization", value)], None), Err(Refused::Authorization), "{value:?}");
        }
        for value in ["", " ", "a b", "é"] {
            assert_eq!(of(&[("x-api-key", value)], None), Err(Refused::Key("x-api-key")), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_shows_the_key(key in "[!-~]{8,60}") {
            let mut headers = HeaderMap::new();
            headers.insert(API_KEY, key.parse().unwrap());
            let found = credentials(&headers, None).unwrap().unwrap();
            prop_assert_eq!(found.bytes(), key.as_bytes());
            let shown = format!("{:?}", &found);
            prop_assert!(!shown.contains(&key));
        }
    }
}
