//! Limits: how much a client, group, route or model may use. Pure counting; who is counted and where is decided above.
//!
//! - [`Limit`]: what is counted, and how much of it is admitted.
//! - [`Counter`]: what one subject has used of one limit; [`Counters`]: those of all subjects, which outlive configurations.
//! - [`Admitted`]: a request that all of its limits admitted, in one step, until it is settled.
//! - [`certain_refusal`]: what is known before anything is known of a request but its client and route.
//! - [`Tightest`]: what is left of the tightest of several limits.
//! - [`Rate`] and [`Clock`]: so much per span of time, with a burst (GCRA). Lock-free.
//! - [`Calendar`] and [`PeriodCount`]: so much per day or month in a time zone.
//! - [`InFlight`]: so many requests at once; [`InFlights`]: those of all subjects of a limit.
//! - [`PriceBook`] and [`PriceList`]: what the tokens of a model cost.

mod admission;
mod calendar;
mod certain;
mod concurrency;
mod counter;
mod counters;
mod definition;
mod estimate;
mod in_flights;
mod price;
mod price_book;
mod rate;
pub mod shared;
mod tightest;

pub use admission::{Admitted, Applied, Demand, Refused};
pub use calendar::{Calendar, CalendarUnit, Period, PeriodCount};
pub use certain::certain_refusal;
pub use concurrency::{InFlight, Slot};
pub use counter::{Counter, Left, Moment, Remaining};
pub use counters::{CountedSubject, Counters};
pub use definition::{Allowance, Limit, TokenCount, Unit, Weights};
pub use estimate::{AverageIndex, Estimates, Lesson, Likeness, RequestSize, Teaches};
pub use in_flights::InFlights;
pub use price::{PriceList, PricedTokens, Prices, Tier};
pub use price_book::{ModelNames, PriceBook};
pub use rate::{Clock, Level, Now, Rate};
pub use tightest::Tightest;
