//! `key new NAME`: creates a client key and shows it once.

use std::process::ExitCode;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::config::{KeyHash, MAX_NAME, is_name};

/// Random bytes in a key, as many as its hash has.
const LENGTH: usize = 32;

/// Why no key was created.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "not a valid client name: use letters, digits, `-`, `_` and `.`, at most {MAX_NAME} characters, starting with a letter or \
         digit; a name must not look like a key"
    )]
    Name,
    #[error("operating system returned no random bytes")]
    Random,
}

/// Creates a key and prints it with the configuration table that admits it.
pub(super) fn new(name: &str) -> ExitCode {
    match generate().and_then(|key| announcement(name, &key)) {
        Ok(text) => super::print(text.as_str()),
        Err(error) => super::fail(&error),
    }
}

/// A new client key.
pub(super) fn generate() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    rand::fill(bytes.as_mut()).map_err(|_| Error::Random)?;
    Ok(Zeroizing::new(format!("sk-sg-{}", URL_SAFE_NO_PAD.encode(bytes.as_ref()))))
}

fn announcement(name: &str, key: &str) -> Result<Zeroizing<String>, Error> {
    if !is_name(name) {
        return Err(Error::Name);
    }
    // A bare key with a dot would be a table within a table.
    let table = if name.contains('.') { format!("{name:?}") } else { name.to_owned() };
    let hash = KeyHash::of(key.as_bytes());
    Ok(Zeroizing::new(format!(
        "# Client key. It is not stored and cannot be shown again:\n\
         #   {key}\n\
         # For gateway.toml:\n\
         [client.{table}]\n\
         key = \"{hash}\"\n"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_admits_the_key() {
        let key = generate().expect("random bytes");
        assert!(key.starts_with("sk-sg-") && key.len() == 6 + 43, "{}", key.len());
        assert_ne!(*key, *generate().expect("random bytes"));
        for (name, table) in [("team-a", "[client.team-a]"), ("team.a", "[client.\"team.a\"]")] {
            let text = announcement(name, &key).expect("a name");
            assert_eq!(text.matches(key.as_str()).count(), 1);
            assert!(text.contains(table), "{}", *text);
            let document: toml::Table = text.parse().expect("TOML");
            let hash: KeyHash =
                document["client"][name]["key"].as_str().expect("a string").parse().expect("a hash");
            assert_eq!(hash, KeyHash::of(key.as_bytes()));
        }
    }

    #[test]
    fn a_name_that_the_file_would_refuse_gets_no_key() {
        for name in ["", "a b", "sk-sg-abc", "x\n[admin]"] {
            assert!(matches!(announcement(name, "sk-sg-x"), Err(Error::Name)), "{name}");
        }
    }
}
