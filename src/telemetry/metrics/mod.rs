//! Metrics: counted where things happen, added up when they are asked for.

pub mod count;
pub mod exposition;
pub mod histogram;
pub mod process;
pub mod worker;
