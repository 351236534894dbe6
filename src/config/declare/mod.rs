//! How a configuration key is declared, once.
//!
//! A row of [`table!`] is everything that is known of a key: its name, the type of its value, the parser with its range, its default
//! and its documentation; then, where they differ from the usual, an example, who inherits it, whether it is secret, and when a change
//! takes effect. From the row come the field of the public struct, the reader, the list of accepted keys (and so "did you mean"), the
//! shipped `gateway.toml`, `docs/configuration.md`, the JSON Schema, what `/config` masks, and what a reload cannot change.
//!
//! # Adding a key
//!
//! A boolean of a route is one row in `schema/route.rs`:
//!
//! ```text
//! websocket: bool = flag().or(true), "Whether upgrades to WebSocket are forwarded.";
//! ```
//!
//! and the code that reads `route.websocket`. A timeout is one row in `schema/timeouts.rs`, a list of a client one in
//! `schema/client.rs`:
//!
//! ```text
//! tags: Option<Vec<String>> = list(text("tag", tag)).non_empty(HELP).optional(), "Tags in log lines.",
//!     { example: &[r#"["blue"]"#], since: "0.2.0" };
//! ```
//!
//! A list that decides what a client may do is used in `access::Caller`, which `snapshot` makes of the client's table.
//!
//! Then run `SLUICEGATE_WRITE=1 cargo test --lib config::tests::generated`, which writes `gateway.toml` and `docs/configuration.md`.
//!
//! # Kinds of rows
//!
//! - `name: Type = kind, "doc";` is a key that reads itself into a field of the same name.
//! - `name = kind, "doc";` without a type is a key only: another field is made from it, by an expression under `derived`.
//! - `derived { name: Type = expression; }` is a field that is made from several keys, or from keys of another name. The expression
//!   sees the table, the context, and each row above it as an `Option` that is `None` after a mistake.
//! - `prepare { let name = expression; }` comes before `derived`, for what several of its fields share.
//! - `check { expression }` runs after that, for what must hold between keys of the table.

mod field;
mod key;
mod kind;

use super::reader::Table;

pub(crate) use field::{Defaulted, Described, Field, Or, described, section};
pub use key::{DefaultValue, Effect, Inheritance, Key, Meta, Secrecy, Shape};
pub(crate) use kind::{
    Choice, Context, Flag, Kind, List, Names, ParseAs, Reference, Size, SpanOrOff, Text, choice, count,
    directory, flag, list, nested, parse_as, reference, secret, size, span, text,
};

/// A table of the file whose keys are declared.
pub(crate) trait Keys {
    /// The keys that it accepts.
    const NAMES: &'static [&'static str];

    /// Everything that is known of each of them, in the order of the declaration.
    fn keys() -> Vec<Key>;
}

/// One that reads itself into a struct of its name.
pub(crate) trait Declared: Keys + Sized {
    /// Reads it. `None` after a mistake that was reported.
    fn read(table: &Table<'_>, context: &Context<'_>) -> Option<Self>;

    /// The values of the keys that are fields, in TOML.
    fn written(&self) -> Vec<(&'static str, String)>;
}

/// Declares a table of which only the keys are known here: something else is made from it, elsewhere.
macro_rules! keys {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Table:ident {
            $( $key:ident = $kind:expr, $doc:expr $(, { $($meta:ident: $value:expr),* $(,)? })?; )*
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $Table;

        impl $crate::config::declare::Keys for $Table {
            const NAMES: &'static [&'static str] = &[ $( stringify!($key) ),* ];

            fn keys() -> Vec<$crate::config::declare::Key> {
                use $crate::config::declare::{Key, Meta};
                vec![ $( Key::new(
                    stringify!($key),
                    $doc,
                    &$kind,
                    Meta { $( $( $meta: $value, )* )? ..Meta::USUAL },
                ) ),* ]
            }
        }
    };
}

/// Declares a table; the module's documentation says how.
macro_rules! table {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Table:ident($table:ident, $context:ident) {
            $( $key:ident $(: $type:ty)? = $kind:expr, $doc:expr $(, { $($meta:ident: $value:expr),* $(,)? })?; )*
        }
        $( prepare { let $prepared:ident = $preparation:expr; } )?
        $( derived { $( $(#[$derived_doc:meta])* $derived:ident: $derived_type:ty = $read:expr; )* } )?
        $( check { $check:expr } )?
    ) => {
        $(#[$attribute])*
        $visibility struct $Table {
            $( $( #[doc = $doc] pub $key: $type, )? )*
            $( $( $(#[$derived_doc])* pub $derived: $derived_type, )* )?
        }

        impl $crate::config::declare::Keys for $Table {
            const NAMES: &'static [&'static str] = &[ $( stringify!($key) ),* ];

            fn keys() -> Vec<$crate::config::declare::Key> {
                use $crate::config::declare::{Key, Meta};
                vec![ $( Key::new(
                    stringify!($key),
                    $doc,
                    &$kind,
                    Meta { $( $( $meta: $value, )* )? ..Meta::USUAL },
                ) ),* ]
            }
        }

        impl $crate::config::declare::Declared for $Table {
            fn read(
                $table: &$crate::config::reader::Table<'_>,
                $context: &$crate::config::declare::Context<'_>,
            ) -> Option<Self> {
                $( $(
                    let $key: Option<$type> =
                        $crate::config::declare::Field::read(&$kind, $table, stringify!($key), $context);
                )? )*
                $( let $prepared = $preparation; )?
                $( $( let $derived: Option<$derived_type> = $read; )* )?
                $( $check; )?
                Some(Self {
                    $( $( $key: { let read: Option<$type> = $key; read? }, )? )*
                    $( $( $derived: $derived?, )* )?
                })
            }

            fn written(&self) -> Vec<(&'static str, String)> {
                vec![ $( $( {
                    let value: &$type = &self.$key;
                    (stringify!($key), $crate::config::declare::Field::written(&$kind, value))
                }, )? )* ]
            }
        }
    };
}

/// Declares a table in which every key has a default, and implements [`Default`] by those.
macro_rules! defaults_table {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Table:ident {
            $( $key:ident: $type:ty = $kind:expr, $doc:expr $(, $meta:tt)?; )*
        }
    ) => {
        $crate::config::declare::table! {
            $(#[$attribute])*
            $visibility struct $Table(table, context) {
                $( $key: $type = $kind, $doc $(, $meta)?; )*
            }
        }

        impl Default for $Table {
            fn default() -> Self {
                Self { $( $key: $crate::config::declare::Defaulted::default_value(&$kind) ),* }
            }
        }
    };
}

/// Declares a table that is inherited key by key: the struct of its values, and with it the struct of what one level overrides, in
/// which `None` means inherited.
macro_rules! inherited_table {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Table:ident, overridden by $Overrides:ident {
            $( $key:ident: $type:ty = $kind:expr, $doc:expr $(, $meta:tt)?; )*
        }
    ) => {
        $crate::config::declare::defaults_table! {
            $(#[$attribute])*
            $visibility struct $Table {
                $( $key: $type = $kind, $doc $(, $meta)?; )*
            }
        }

        #[doc = concat!("The keys of [`", stringify!($Table), "`] that one table of the file sets; `None`: inherited.")]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        $visibility struct $Overrides {
            $( #[doc = concat!("See [`", stringify!($Table), "::", stringify!($key), "`].")] pub $key: Option<$type>, )*
        }

        impl $Overrides {
            /// The keys that are set in a table of the file.
            pub(crate) fn read(
                table: &$crate::config::reader::Table<'_>,
                context: &$crate::config::declare::Context<'_>,
            ) -> Self {
                Self { $( $key: $kind.read_written(table, stringify!($key), context) ),* }
            }

            /// The keys that are set here, and the inherited values of the others.
            #[must_use]
            pub fn over(self, inherited: $Table) -> $Table {
                $Table { $( $key: self.$key.unwrap_or(inherited.$key) ),* }
            }
        }
    };
}

pub(crate) use {defaults_table, inherited_table, keys, table};
