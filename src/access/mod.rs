//! Who is calling: from a request's headers to a [`Caller`]. A configuration knows client keys by their SHA-256 alone.

mod callers;
mod credential;

pub use callers::{Caller, Callers};
pub use credential::{Credential, Refused, credentials, is_credential_parameter, presented};
