//! Which paths, queries and headers pass between caller and upstream, and in which form. A key never does.
//!
//! These are pure functions, called by the request path.

mod cors;
mod headers;
pub mod path;
mod secret_scanner;

pub use cors::Readers;
pub use headers::*;
pub use secret_scanner::SecretScanner;
