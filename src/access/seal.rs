//! The gateway's own ephemeral keys: the secret that a provider has issued for a browser, sealed, so that it can be used through this gateway
//! alone.
//!
//! Nothing is kept of such a key: all that is known of it is in it, encrypted and authenticated (AES-256-GCM-SIV, RFC 8452). Gateways with the
//! same seal key take each other's.

use std::{
    fmt, str,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{Context, SHA256},
    error::Unspecified,
    rand,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;
use zeroize::Zeroizing;

/// How each of them begins. SDKs take nothing in a browser that does not begin with `ek_` (openai-node `src/realtime/websocket.ts`).
const PREFIX: &str = "ek_sg_";

/// How the provider's own begin, and all that are meant to be ephemeral keys.
const EPHEMERAL: &[u8] = b"ek_";

/// The form of what is sealed; another form has another number.
const FORM: u8 = 1;

/// The longest key that is opened, in bytes. It is sent in a header.
const LONGEST: usize = 8 << 10;

/// Makes and opens ephemeral keys.
pub struct Seal(RandomizedNonceKey);

/// What an ephemeral key stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct EphemeralGrant {
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// The client for which it was issued; `None` on an open route.
    pub client: Option<String>,
    /// The route on which it was issued.
    pub route: String,
    /// The upstream that has issued the secret.
    pub upstream: String,
    /// The account of the upstream's key.
    pub account: String,
    /// The upstream's secret.
    pub secret: Zeroizing<String>,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// Its form is that of an ephemeral key, but not of one of a gateway like this.
    #[error("it was not issued by this gateway")]
    Foreign,
    /// It was altered, or sealed with another key.
    #[error("it was altered, or issued by a gateway with another seal key")]
    Altered,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

impl Seal {
    /// A seal whose key is derived from `secret`.
    ///
    /// # Errors
    /// The library refuses the key.
    pub fn new(secret: &[u8]) -> Result<Self, Unspecified> {
        let mut context = Context::new(&SHA256);
        context.update(b"sluicegate ephemeral keys\0");
        context.update(secret);
        RandomizedNonceKey::new(&AES_256_GCM_SIV, context.finish().as_ref()).map(Self)
    }

    /// A seal with a random key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn random() -> Result<Self, Unspecified> {
        let mut secret = Zeroizing::new([0; 32]);
        rand::fill(secret.as_mut_slice())?;
        Self::new(secret.as_slice())
    }

    /// The ephemeral key for `grant`: visible ASCII that may stand in any header, also as a WebSocket subprotocol.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn seal(&self, grant: &EphemeralGrant) -> Result<String, Unspecified> {
        let mut sealed = grant.to_bytes();
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut *sealed)?;
        let all = [nonce.as_ref().as_slice(), sealed.as_slice()].concat();
        Ok([PREFIX, &URL_SAFE_NO_PAD.encode(all)].concat())
    }

    /// The time that ephemeral keys are compared with, in seconds since 1970.
    pub fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// What `key` stands for, `now` seconds after 1970; `None`: it has not the form of an ephemeral key.
    ///
    /// # Errors
    /// It is not one of this gateway's, or its time is over.
    pub fn open(&self, key: &[u8], now: u64) -> Option<Result<EphemeralGrant, SealError>> {
        key.starts_with(EPHEMERAL).then(|| {
            let sealed = key.strip_prefix(PREFIX.as_bytes()).ok_or(SealError::Foreign)?;
            let grant = self.opened(sealed).ok_or(SealError::Altered)?;
            if grant.expires <= now { Err(SealError::Expired) } else { Ok(grant) }
        })
    }

    fn opened(&self, sealed: &[u8]) -> Option<EphemeralGrant> {
        if sealed.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let text = self.0.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        EphemeralGrant::of_bytes(text)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl EphemeralGrant {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let Self { expires, client, route, upstream, account, secret } = self;
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        bytes.push(FORM);
        bytes.extend_from_slice(&expires.to_be_bytes());
        bytes.push(u8::from(client.is_some()));
        for text in [client.as_deref().unwrap_or_default(), route, upstream, account, secret] {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[FORM], rest) = bytes.split_first_chunk()? else { return None };
        let (expires, rest) = rest.split_first_chunk()?;
        let (&has_client, mut rest) = rest.split_first()?;
        let mut text = || {
            let (length, behind) = rest.split_first_chunk()?;
            let (text, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = behind;
            str::from_utf8(text).ok().map(str::to_owned)
        };
        Some(Self {
            expires: u64::from_be_bytes(*expires),
            client: text().map(|client| (has_client == 1).then_some(client))?,
            route: text()?,
            upstream: text()?,
            account: text()?,
            secret: text()?.into(),
        })
    }
}

impl fmt::Debug for EphemeralGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expires, client, route, upstream, .. } = self;
        let mut shown = f.debug_struct("EphemeralGrant");
        shown.field("expires", expires).field("client", client).field("route", route);
        shown.field("upstream", upstream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(client: Option<&str>) -> EphemeralGrant {
        EphemeralGrant {
            expires: 1_000,
            client: client.map(str::to_owned),
            route: "openai".into(),
            upstream: "main".into(),
            account: String::new(),
            secret: "ek_abcdef0123456789".to_owned().into(),
        }
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_key_alone() {
        let (seal, same) = (Seal::new(b"one").unwrap(), Seal::new(b"one").unwrap());
        for grant in [grant(Some("team")), grant(None), grant(Some(""))] {
            let key = seal.seal(&grant).unwrap();
            assert_eq!(same.open(key.as_bytes(), 999), Some(Ok(grant)));
            assert_eq!(same.open(key.as_bytes(), 1_000), Some(Err(SealError::Expired)));
            for other in [Seal::new(b"two").unwrap(), Seal::random().unwrap()] {
                assert_eq!(other.open(key.as_bytes(), 999), Some(Err(SealError::Altered)));
            }
        }
    }

    #[test]
    fn a_key_may_stand_in_any_header_and_shows_nothing() {
        let (seal, grant) = (Seal::random().unwrap(), grant(Some("team")));
        let keys: Vec<String> = (0..2).map(|_| seal.seal(&grant).unwrap()).collect();
        assert_ne!(keys[0], keys[1]);
        for key in &keys {
            let rest = key.strip_prefix(PREFIX).unwrap();
            assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{key}");
        }
        let shown = format!("{seal:?} {grant:?}");
        assert!(!shown.contains("ek_abcdef"), "{shown}");
    }

    #[test]
    fn what_was_altered_is_opened_by_none() {
        let seal = Seal::random().unwrap();
        let key = seal.seal(&grant(None)).unwrap();
        for at in PREFIX.len()..key.len() {
            let mut other = key.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'Q' } else { b'A' };
            assert_eq!(seal.open(&other, 0), Some(Err(SealError::Altered)), "{at}");
            assert_eq!(seal.open(&key.as_bytes()[..at], 0), Some(Err(SealError::Altered)), "{at}");
        }
        let long = [PREFIX, &"A".repeat(LONGEST + 1)].concat();
        assert_eq!(seal.open(long.as_bytes(), 0), Some(Err(SealError::Altered)));
        assert_eq!(seal.open(b"ek_0123456789abcdef", 0), Some(Err(SealError::Foreign)));
        assert_eq!(seal.open(b"sk-0123456789abcdef", 0), None);
    }
}
