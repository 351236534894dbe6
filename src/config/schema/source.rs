//! Where a secret or a PEM file is to be read from.

use crate::config::declare::{Shape, described, keys};

keys! {
    /// `{ env = "NAME" }`, `{ file = "path" }` or `{ credential = "name" }`: exactly one key. Read by [`crate::config::source`].
    pub(crate) struct Source {
        env = described(Shape::Text("name of an environment variable")),
            "Reads the value of this environment variable, once when the process starts and again at each reload.";
        file = described(Shape::Text("path")),
            "Reads this file. A relative path starts at the folder of the configuration file.";
        credential = described(Shape::Text("name of a systemd credential")),
            "Reads this systemd credential (`LoadCredential=` of the unit).";
    }
}
