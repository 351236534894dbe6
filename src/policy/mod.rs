//! What may cross between caller and upstream, and in which form: paths, queries, headers, and never a key.
//!
//! Pure functions; who calls them when is the business of the request path.

mod crossing;
mod headers;
pub mod path;

pub use crossing::Crossing;
pub use headers::*;
