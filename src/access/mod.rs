//! Authentication: from a request's headers to a [`Caller`]. The configuration contains only the SHA-256 of client keys.

mod callers;
mod credential;
mod issuer;
mod network;
mod seal;
mod sharded;

pub use callers::{Caller, Callers, Expiries, KnownCaller, KnownKey, OwnTerms, Rights, fits};
pub use credential::{Credential, Credentials, Refused, credentials, is_credential_parameter, presented};
pub use issuer::provider_of_key;
pub use network::{identity_of, network_of};
pub use seal::{EphemeralGrant, Seal, SealError};
pub use sharded::Sharded;
