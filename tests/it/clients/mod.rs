//! Clients: when their keys expire, what the log has of them, and files of their own.

mod expiry;
