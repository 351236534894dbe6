//! The room over real sockets, with a small handler in the proxy's place.

mod addresses;
mod clocks;
mod drain;
mod endings;
mod files;
mod protocols;
mod slow;
mod support;
mod tls;
mod upgrades;
