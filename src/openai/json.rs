//! Reading a few members of a JSON object in one pass, whatever shape it turns out to have.
//!
//! Derived deserializers would refuse a whole document for one member of an unexpected type; these readers take what
//! is as expected and pass over the rest, without building a tree.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Something that takes members of a JSON object.
pub(super) trait Object {
    /// Takes the member `key`. It must read exactly one value from `map`; [`skip`] does when nothing is wanted of it.
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// What stood where an object could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Null,
    Other,
}

/// Reads a whole JSON document into `object`, if it is one.
///
/// # Errors
/// The text is not JSON. What came before the error has been taken all the same.
pub(super) fn read(json: &[u8], object: &mut impl Object) -> Result<Shape, serde_json::Error> {
    let mut document = serde_json::Deserializer::from_slice(json);
    let shape = Read(object).deserialize(&mut document)?;
    document.end()?;
    Ok(shape)
}

/// Passes over the value of a member.
pub(super) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// The value as a seed for an [`Object`]; any other value is passed over.
pub(super) struct Read<'a, T>(pub(super) &'a mut T);

/// The value as an array of objects, each read into a new `T` and given to the function; other values are passed over.
pub(super) struct Each<T, F>(F, PhantomData<T>);

impl<T: Object + Default, F: FnMut(T)> Each<T, F> {
    pub(super) fn new(each: F) -> Self {
        Self(each, PhantomData)
    }
}

/// Any value, as far as a member that should be a scalar is concerned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Leaf<'de> {
    Null,
    Bool(bool),
    /// A whole number that is not negative.
    Count(u64),
    /// Any other number.
    Number(f64),
    Text(Cow<'de, str>),
    /// An array or object, of which is only told whether something is in it.
    Nested {
        filled: bool,
    },
}

impl<'de> Leaf<'de> {
    pub(super) fn of<A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }

    pub(super) fn count(&self) -> Option<u64> {
        if let Self::Count(count) = self { Some(*count) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Whether there is some text or a list or object with something in it.
    pub(super) fn filled(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Nested { filled } => *filled,
            Self::Null | Self::Bool(_) | Self::Count(_) | Self::Number(_) => false,
        }
    }

    /// Whether Python takes the value for true, as the official SDK asks of `error`
    /// (openai-python, `src/openai/_streaming.py`).
    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Bool(truth) => *truth,
            Self::Count(count) => *count != 0,
            Self::Number(number) => *number != 0.0,
            Self::Null | Self::Text(_) | Self::Nested { .. } => self.filled(),
        }
    }
}

/// An object's key, borrowed unless it has escapes.
struct Key<'de>(Cow<'de, str>);

macro_rules! other_values {
    ($value:ty, $null:expr, $other:expr; $($visit:ident: $type:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $type) -> Result<$value, E> { Ok($other) })*
        fn visit_unit<E: serde::de::Error>(self) -> Result<$value, E> { Ok($null) }
    };
}

impl<'de, T: Object> DeserializeSeed<'de> for Read<'_, T> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Object> Visitor<'de> for Read<'_, T> {
    type Value = Shape;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            self.0.member(&key, &mut map)?;
        }
        Ok(Shape::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        drain(&mut seq)?;
        Ok(Shape::Other)
    }

    other_values!(Shape, Shape::Null, Shape::Other; visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_str: &str);
}

impl<'de, T: Object + Default, F: FnMut(T)> DeserializeSeed<'de> for Each<T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Object + Default, F: FnMut(T)> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut item = T::default();
        while let Some(shape) = seq.next_element_seed(Read(&mut item))? {
            let read = std::mem::take(&mut item);
            if shape == Shape::Object {
                (self.0)(read);
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    other_values!((), (), (); visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_str: &str);
}

impl<'de> Deserialize<'de> for Leaf<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeafVisitor)
    }
}

struct LeafVisitor;

impl<'de> Visitor<'de> for LeafVisitor {
    type Value = Leaf<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Leaf<'de>, E> {
        Ok(Leaf::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Leaf<'de>, E> {
        Ok(Leaf::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Leaf<'de>, E> {
        Ok(Leaf::Count(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Leaf<'de>, E> {
        Ok(u64::try_from(value).map_or(Leaf::Number(-1.0), Leaf::Count))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Leaf<'de>, E> {
        Ok(Leaf::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Leaf<'de>, E> {
        Ok(Leaf::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Leaf<'de>, E> {
        Ok(Leaf::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Leaf<'de>, A::Error> {
        Ok(Leaf::Nested { filled: drain(&mut seq)? })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaf<'de>, A::Error> {
        let mut filled = false;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            filled = true;
        }
        Ok(Leaf::Nested { filled })
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(value.to_owned())))
    }
}

/// Reads the rest of an array; true when there was any.
fn drain<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<bool, A::Error> {
    let mut filled = false;
    while seq.next_element::<IgnoredAny>()?.is_some() {
        filled = true;
    }
    Ok(filled)
}
