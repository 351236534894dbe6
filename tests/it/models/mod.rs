//! `[model.NAME]` tables: which upstream a request reaches by the model that it names.

mod azure;
mod check;
mod list;
mod rig;
mod tables;
