//! Realtime beside the WebSocket tunnel itself: ephemeral keys, and calls that are made with them.

mod calls;
mod issued;
mod models;
mod refused;
mod rig;
mod sdk;
