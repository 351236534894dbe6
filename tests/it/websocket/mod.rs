//! WebSocket through the gateway.

mod ends;
mod opened;
mod refused;
mod rig;
