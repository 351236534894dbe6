//! The live page: what it is sent, what an operator may do on it, and what it looks like in a browser.

mod actions;
mod events;
mod pictures;
mod see;
pub mod shipping;
mod terminal;
pub mod viewer;
