//! stand-in
mod schema;
mod secret;
pub use schema::*;
pub use secret::*;
#[derive(Debug)]
pub struct Problem;
