//! No key crosses, in whatever form it is written, and everything else does.

mod crossing;
mod debug;
mod forms;
mod key_forms;
mod logged;
mod named;
mod recalled;
mod remembered;
mod rig;
