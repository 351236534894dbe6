//! Reading a few members of a JSON object in one pass, whatever shape it turns out to have.
//!
//! Nearly all of a document is skipped, above all the text of a prompt or an answer. This reader skips values without decoding them, and
//! builds no tree. It accepts the same documents as serde_json, except that a value which is skipped need not be UTF-8.

mod leaf;
mod scan;

pub(super) use leaf::{Leaf, NotJson};
use scan::Scan;

/// Something that takes members of a JSON object.
pub(super) trait Object {
    /// Takes the member `key`. It must read exactly one value; [`Value::skip`] does when nothing is wanted of it.
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson>;
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
pub(super) fn read(json: &[u8], object: &mut impl Object) -> Result<Shape, NotJson> {
    let mut document = Value(Scan::new(json));
    let shape = document.object(object)?;
    document.0.end()?;
    Ok(shape)
}

/// Reads a JSON array of objects into `object`, one after the other; other items are skipped.
///
/// # Errors
/// The text is not JSON, or no array. What came before the error has been taken all the same.
pub(super) fn read_each(json: &[u8], object: &mut impl Object) -> Result<(), NotJson> {
    let mut scan = Value(Scan::new(json));
    scan.0.peek();
    if !scan.0.enter(b']') {
        return scan.0.end();
    }
    loop {
        scan.object(object)?;
        if !scan.0.goes_on(b']')? {
            return scan.0.end();
        }
    }
}

/// A value that is to be read, in one of these ways.
pub(super) struct Value<'j>(Scan<'j>);

impl<'j> Value<'j> {
    /// The offset of its first byte in the document, before it is read.
    pub(super) fn begins_at(&mut self) -> usize {
        self.0.peek();
        self.0.offset()
    }

    /// The offset behind its last byte, after it was read.
    pub(super) fn ends_at(&self) -> usize {
        self.0.offset()
    }

    /// Skips it.
    pub(super) fn skip(&mut self) -> Result<(), NotJson> {
        self.0.value().map(drop)
    }

    /// Reads an object; any other value is skipped.
    pub(super) fn object(&mut self, object: &mut impl Object) -> Result<Shape, NotJson> {
        match self.0.peek() {
            Some(b'{') => {}
            Some(b'n') => return self.skip().map(|()| Shape::Null),
            _ => return self.skip().map(|()| Shape::Other),
        }
        if !self.0.enter(b'}') {
            return Ok(Shape::Object);
        }
        loop {
            let key = self.0.key()?;
            object.member(&key, self)?;
            if !self.0.goes_on(b'}')? {
                return Ok(Shape::Object);
            }
        }
    }

    /// Reads an array of objects, each into a new `T` that is given to `each`; other values are skipped.
    pub(super) fn each<T: Object + Default>(&mut self, mut each: impl FnMut(T)) -> Result<(), NotJson> {
        if self.0.peek() != Some(b'[') {
            return self.skip();
        }
        if !self.0.enter(b']') {
            return Ok(());
        }
        loop {
            let mut item = T::default();
            if self.object(&mut item)? == Shape::Object {
                each(item);
            }
            if !self.0.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Skips it, and returns whether it is a text, list or object that is not empty. Text is not decoded for that: half of a
    /// surrogate pair is some, too (Python and JavaScript read it, and upstreams that cut an emoji in two write it).
    pub(super) fn filled(&mut self) -> Result<bool, NotJson> {
        match self.0.peek() {
            Some(b'"') => self.0.has_text(),
            _ => self.0.value(),
        }
    }

    /// Reads a scalar.
    pub(super) fn leaf(&mut self) -> Result<Leaf<'j>, NotJson> {
        Ok(match self.0.peek() {
            Some(b'"') => Leaf::Text(self.0.text()?),
            Some(b'-' | b'0'..=b'9') => self.0.number()?,
            Some(b'{' | b'[') => Leaf::Nested { filled: self.0.value()? },
            Some(b't') => self.skip().map(|()| Leaf::Bool(true))?,
            Some(b'f') => self.skip().map(|()| Leaf::Bool(false))?,
            _ => self.skip().map(|()| Leaf::Null)?,
        })
    }
}

#[cfg(test)]
mod tests;
