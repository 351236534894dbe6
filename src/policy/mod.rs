//! What may cross between caller and upstream, and in which form: paths, queries, headers, and never a key.
//!
//! Pure functions; who calls them when is the business of the request path.

mod headers;
pub mod path;
mod secret_scanner;

pub use headers::*;
pub use secret_scanner::SecretScanner;
