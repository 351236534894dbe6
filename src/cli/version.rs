//! What `--version` says.

/// One line for each fact; the first is the version. Set by `build.rs`.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit    ",
    env!("SLUICEGATE_COMMIT"),
    "\nbuilt for ",
    env!("SLUICEGATE_TARGET"),
    "\nfeatures  ",
    env!("SLUICEGATE_FEATURES"),
);
