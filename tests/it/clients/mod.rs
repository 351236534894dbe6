//! Clients: when their keys expire, what the log has of them, and files of their own.

mod expiry;
mod files;
mod hostile;
mod many;
mod rig;
