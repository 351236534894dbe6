//! A JSON object with its members as they were written: in their order, and twice where they are there twice.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

pub struct Members<T = Value>(pub Vec<(String, T)>);

impl Members {
    /// `None` for what is no JSON object, as [`Value`] reads it: no lone surrogates, no numbers past `f64`, at most 128 deep.
    pub fn of(json: &[u8]) -> Option<Self> {
        // `Value` would take this for the text of another document (serde_json's `raw_value`).
        let magic = memchr::memmem::find(json, b"$serde_json::private").is_some();
        if magic { None } else { serde_json::from_slice(json).ok() }
    }
}

impl<T> Members<T> {
    pub fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m T> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AsWritten(PhantomData))
    }
}

struct AsWritten<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AsWritten<T> {
    type Value = Members<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
