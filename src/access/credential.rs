//! The credentials in a request.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::fault::Reason;

/// Looking up a constant name costs less than looking up text.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// The most different credentials that one request may carry.
const MOST: usize = 8;

/// A key that a request presents. Wiped from memory when dropped, never shown.
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
    /// Two keys that belong to different clients: a proxy on the way may have used the other one.
    #[error("the request carries credentials of two different clients")]
    Different,
    /// Each would have to be looked up.
    #[error("the request carries more than {MOST} different credentials")]
    TooMany,
    /// RFC 9110 section 5.3: only list fields may occur more than once, and `Authorization` is not one.
    #[error("the request carries more than one Authorization header")]
    Repeated,
    /// Another scheme than `Bearer`, or nothing that can be a key.
    #[error("the Authorization header is not of the form `Bearer KEY`")]
    Authorization,
    /// Not of visible ASCII, or with white space in it.
    #[error("the {0} header does not contain a key")]
    Key(&'static str),
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Different => Self::CredentialsDiffer,
            Refused::TooMany => Self::CredentialsTooMany { limit: MOST },
            Refused::Repeated => Self::AuthorizationRepeated,
            Refused::Authorization => Self::AuthorizationForm,
            Refused::Key(header) => Self::HeaderWithoutKey { header },
        }
    }
}

/// The credentials of a request: each different key once. Nearly all requests have one.
#[derive(Debug, Default)]
pub struct Credentials {
    first: Option<Credential>,
    /// At most [`MOST`] less one.
    others: Vec<Credential>,
    malformed: Option<Refused>,
}

impl Credentials {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.first.iter().chain(&self.others)
    }

    /// The credential of a request that has exactly one.
    pub fn only(&self) -> Option<&Credential> {
        self.first.as_ref().filter(|_| self.others.is_empty())
    }

    /// What is wrong with a header that has something in it, but no key. It matters where no other credential is known.
    pub fn malformed(&self) -> Option<Refused> {
        self.malformed
    }

    fn add(&mut self, key: Cow<'_, [u8]>, in_query: bool) -> Result<(), Refused> {
        if self.iter().any(|credential| *credential.key == *key) {
            return Ok(());
        }
        let credential = Credential { key: Zeroizing::new(key.into_owned()), in_query };
        if self.first.is_none() {
            self.first = Some(credential);
        } else if self.others.len() + 1 < MOST {
            self.others.push(credential);
        } else {
            return Err(Refused::TooMany);
        }
        Ok(())
    }
}

/// Finds the credentials of a request: `Authorization: Bearer`, `x-api-key` (Anthropic), `api-key` (Azure OpenAI), `x-goog-api-key`
/// (Google), and those query parameters that [`is_credential_parameter`]. The same key in several places is one credential. A header with
/// nothing in it does not count.
///
/// # Errors
/// There is more than one `Authorization` header, or there are too many credentials.
pub fn credentials(headers: &HeaderMap, query: Option<&str>) -> Result<Credentials, Refused> {
    let mut found = Credentials::default();
    match bearer(headers) {
        Ok(Some(key)) => found.add(key.into(), false)?,
        Ok(None) => {}
        Err(Refused::Repeated) => return Err(Refused::Repeated),
        Err(malformed) => found.malformed = Some(malformed),
    }
    for (place, name) in [(X_API_KEY, "x-api-key"), (API_KEY, "api-key"), (X_GOOG_API_KEY, "x-goog-api-key")]
    {
        for value in headers.get_all(place) {
            let value = value.as_bytes().trim_ascii();
            match key(value) {
                Some(key) => found.add(key.into(), false)?,
                None if value.is_empty() => {}
                None => found.malformed = Some(Refused::Key(name)),
            }
        }
    }
    for key in query.into_iter().flat_map(query_keys) {
        found.add(key, true)?;
    }
    Ok(found)
}

/// The first `most` values in a request that may be keys, also if [`credentials`] rejects them: none of them may be logged.
pub fn presented<'r>(headers: &'r HeaderMap, query: Option<&'r str>, most: usize) -> Vec<Cow<'r, [u8]>> {
    // Nearly all requests have one. (Loops, because a chain of iterators takes twice as long.)
    let mut found = Vec::with_capacity(1);
    for name in [AUTHORIZATION, X_API_KEY, API_KEY, X_GOOG_API_KEY] {
        for value in headers.get_all(name) {
            if found.len() < most {
                add_words(value.as_bytes(), &mut found);
            }
        }
    }
    found.extend(query.into_iter().flat_map(query_keys).take(most.saturating_sub(found.len())));
    found.truncate(most);
    found
}

/// Adds the last word of a value, and for `Basic` (RFC 7617) also the user name and the password in it.
fn add_words<'v>(value: &'v [u8], found: &mut Vec<Cow<'v, [u8]>>) {
    let value = value.trim_ascii();
    let word = value.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    if word.is_empty() {
        return;
    }
    found.push(Cow::Borrowed(word));
    let is_basic = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
    let Some(login) = is_basic.then(|| STANDARD.decode(word).ok()).flatten() else { return };
    let parts = login.split(|byte| *byte == b':').filter(|part| !part.is_empty());
    found.extend(parts.map(|part| Cow::Owned(part.to_vec())));
}

/// Whether a query parameter of this (decoded) name holds a credential by its meaning: `key` (Google), `api-key` (Azure) and
/// its spellings, `access_token` (RFC 6750 section 2.3).
pub fn is_credential_parameter(name: &[u8]) -> bool {
    ["key", "api-key", "api_key", "apikey", "x-api-key", "access_token"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// RFC 6750 section 2.1; the scheme's name is case-insensitive (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::Repeated);
    }
    let value = value.as_bytes().trim_ascii();
    if value.is_empty() {
        return Ok(None);
    }
    let (scheme, rest) = value.split_first_chunk::<6>().ok_or(Refused::Authorization)?;
    if scheme.eq_ignore_ascii_case(b"bearer") && rest.is_empty() {
        return Ok(None);
    }
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

    /// The keys, and whether each is only in the query; or what is wrong with a request that has none.
    fn of(pairs: &[(&'static str, &str)], query: Option<&str>) -> Result<Vec<(String, bool)>, Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = credentials(&headers, query)?;
        let text = |found: &Credential| String::from_utf8(found.bytes().to_vec()).unwrap();
        let all: Vec<_> = found.iter().map(|found| (text(found), found.in_query())).collect();
        assert_eq!(found.only().is_some(), all.len() == 1);
        found.malformed().filter(|_| all.is_empty()).map_or(Ok(all), Err)
    }

    fn in_header(key: &str) -> Result<Vec<(String, bool)>, Refused> {
        in_headers(&[key])
    }

    fn in_headers(keys: &[&str]) -> Result<Vec<(String, bool)>, Refused> {
        Ok(keys.iter().map(|&key| (key.to_owned(), false)).collect())
    }

    #[test]
    fn each_place_is_read() {
        assert_eq!(of(&[], None), Ok(Vec::new()));
        assert_eq!(of(&[("authorization", "Bearer sk-1")], None), in_header("sk-1"));
        assert_eq!(of(&[("authorization", "bEARER   sk-1 ")], None), in_header("sk-1"));
        assert_eq!(of(&[("x-api-key", "sk-1")], None), in_header("sk-1"));
        assert_eq!(of(&[("api-key", "sk-1")], None), in_header("sk-1"));
        assert_eq!(of(&[("x-goog-api-key", "sk-1")], None), in_header("sk-1"));
        for query in ["key=sk%2D1", "a=b&API%2dkey=sk-1", "api_key=sk-1&key=", "access_token=sk-1"] {
            assert_eq!(of(&[], Some(query)), Ok(vec![("sk-1".to_owned(), true)]), "{query}");
        }
        assert_eq!(of(&[], Some("keys=sk-1&monkey=2&key")), Ok(Vec::new()));
    }

    #[test]
    fn one_key_in_several_places_is_one_and_two_keys_are_two() {
        let bearer = ("authorization", "Bearer sk-1");
        assert_eq!(
            of(&[bearer, ("api-key", "sk-1"), ("x-api-key", "sk-1")], Some("key=sk-1")),
            in_header("sk-1")
        );
        assert_eq!(of(&[("api-key", "sk-1"), ("api-key", "sk-1")], None), in_header("sk-1"));
        for (name, key) in [("api-key", "sk-2"), ("x-api-key", "Sk-1"), ("x-goog-api-key", "sk-11")] {
            assert_eq!(of(&[bearer, (name, key)], None), in_headers(&["sk-1", key]));
        }
        assert_eq!(of(&[("api-key", "sk-1"), ("api-key", "sk-2")], None), in_headers(&["sk-1", "sk-2"]));
        let both = Ok(vec![("sk-1".to_owned(), false), ("sk-2".to_owned(), true)]);
        assert_eq!(of(&[bearer], Some("key=sk-2")), both);
        let nine: Vec<_> = (1..10).map(|number| format!("sk-{number}")).collect();
        let many: Vec<_> = nine.iter().map(|key| ("api-key", key.as_str())).collect();
        assert_eq!(of(&many, None), Err(Refused::TooMany));
        assert_eq!(of(&many[1..], None).unwrap().len(), MOST);
        assert_eq!(of(&[bearer, bearer], None), Err(Refused::Repeated));
    }

    #[test]
    fn what_is_empty_does_not_count() {
        for value in ["", " ", "Bearer", "bearer  "] {
            assert_eq!(of(&[("authorization", value)], None), Ok(Vec::new()), "{value:?}");
            assert_eq!(
                of(&[("authorization", value), ("api-key", "sk-1")], None),
                in_header("sk-1"),
                "{value:?}"
            );
        }
        for name in ["x-api-key", "api-key", "x-goog-api-key"] {
            assert_eq!(
                of(&[(name, " "), ("authorization", "Bearer sk-1")], None),
                in_header("sk-1"),
                "{name}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_where_there_is_no_other() {
        for value in ["Basic dTpw", "Bearersk-1", "Bearer a b", "Bearer é", "sk-1", "Bearer\tsk-1"] {
            assert_eq!(of(&[("authorization", value)], None), Err(Refused::Authorization), "{value:?}");
            assert_eq!(
                of(&[("authorization", value), ("api-key", "sk-1")], None),
                in_header("sk-1"),
                "{value:?}"
            );
        }
        for value in ["a b", "é"] {
            assert_eq!(of(&[("x-api-key", value)], None), Err(Refused::Key("x-api-key")), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_shows_the_key(key in "[!-~]{8,60}") {
            let mut headers = HeaderMap::new();
            headers.insert(API_KEY, key.parse().unwrap());
            let found = credentials(&headers, None).unwrap();
            prop_assert_eq!(found.only().unwrap().bytes(), key.as_bytes());
            let shown = format!("{:?}", &found);
            prop_assert!(!shown.contains(&key));
        }
    }
}
