//! The digest by which the gateway knows a client key: the configuration holds it, and a request's key is looked up by it.

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 of a client key's bytes.
pub type KeyDigest = [u8; 32];

/// The digest of a key as the client sends it.
#[must_use]
pub fn key_digest(key: &[u8]) -> KeyDigest {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(digest(&SHA256, key).as_ref()) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_digest_of_the_standard() {
        // FIPS 180-4's first example.
        let digits: String = key_digest(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
