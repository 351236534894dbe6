//! Metrics: each worker counts its own events, and a scrape adds the counts up.

pub mod count;
pub mod exposition;
pub mod histogram;
pub mod process;
pub mod series;
pub mod worker;
