//! Metrics: each worker counts its own events, and a scrape adds the counts up.
//!
//! - What belongs to requests: [`worker::WorkerMetrics`], one for each worker, which guards its [`request_counts::Counts`].
//! - What belongs to something that lives as long as the process (a target, a limit, the store): a [`count::Count`], [`count::Level`] or
//!   [`histogram::SharedTotal`] in it, which any thread may change.
//!
//! What is exported, and how it is named, is in `admin::metrics`.

pub mod accept;
pub mod count;
pub mod exemplar;
pub mod exposition;
pub mod histogram;
pub mod measures;
pub mod models;
pub mod process;
pub mod request_counts;
pub mod sample;
pub mod scale;
pub mod sdk;
pub mod series;
pub mod worker;
