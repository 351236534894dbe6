//! The gateway as a service: what its manager is told, how it stops, and how another one takes its place.

mod handover;
mod manager;
mod notify;
mod stdout;
mod storm;
