//! WebSocket through the gateway.

mod cases;
mod ends;
mod opened;
mod peers;
mod refused;
pub mod rig;
