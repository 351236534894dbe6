//! stand-in
#[derive(Debug, Clone)]
pub struct Secret;
#[derive(Debug, Clone)]
pub struct KeyHash;
