//! WebSocket through the gateway.

mod cases;
mod ends;
mod http2;
mod opened;
mod peers;
mod refused;
pub mod rig;
