//! WebSocket through the gateway.

mod cases;
mod ends;
mod http2;
mod opened;
pub mod peers;
mod refused;
mod revoked;
pub mod rig;
