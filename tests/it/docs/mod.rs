//! The manual (`docs`) and the README: their links lead somewhere, what they name is what the program has, and what they show runs.

mod blocks;
mod book;
mod generated;
mod links;
mod names;
pub mod page;
mod run;
mod tests_named;
