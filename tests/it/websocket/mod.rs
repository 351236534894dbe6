//! WebSocket through the gateway.

mod cases;
mod ends;
mod http2;
mod opened;
pub mod peers;
mod refused;
pub mod rig;
