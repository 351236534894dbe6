//! Reading a few members of a JSON object in one pass, whatever shape it turns out to have.
//!
//! Nearly all of a document is skipped, above all the text of a prompt or an answer. This reader skips values without decoding them, and
//! builds no tree. It accepts the same documents as serde_json, except that a value which is skipped need not be UTF-8.

mod leaf;
mod scan;
mod specials;

pub(super) use leaf::{Leaf, NotJson};
#[cfg(test)]
pub(super) use scan::REWOUND;
use scan::Scan;
pub(super) use scan::{Role, Written, word_of};

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

/// Why a document that may only be so deep cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    NotJson(NotJson),
    /// Objects and arrays are nested deeper than that.
    TooDeep,
}

/// Reads a whole JSON document with `reader`. At most `depth_limit` objects and arrays may be around a value.
///
/// # Errors
/// The text is not JSON, or is deeper.
pub(super) fn read_with(
    json: &[u8],
    depth_limit: usize,
    reader: impl FnOnce(&mut Value<'_>) -> Result<(), NotJson>,
) -> Result<(), Unread> {
    let mut document = Value(Scan::within(json, depth_limit));
    let read = reader(&mut document).and_then(|()| document.0.end());
    read.map_err(|error| if document.0.is_too_deep() { Unread::TooDeep } else { Unread::NotJson(error) })
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

/// A place in a document to which a reader can go back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    at: usize,
    depth_left: usize,
}

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

    /// Its first byte, which tells its type; `None` at the end of the document.
    pub(super) fn first_byte(&mut self) -> Option<u8> {
        self.0.peek()
    }

    /// Whether it is an empty string; its first byte has been looked at.
    #[inline(always)]
    pub(super) fn is_empty_string(&self) -> bool {
        self.0.is_empty_string()
    }

    /// The place before it.
    #[inline(always)]
    pub(super) fn mark(&self) -> Mark {
        Mark { at: self.0.offset(), depth_left: self.0.depth_left() }
    }

    /// Goes back to a value that was read, so that it can be read again.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.0.rewind(mark.at);
        self.0.ascend(mark.depth_left);
    }

    /// What was read since then.
    pub(super) fn since(&self, mark: Mark) -> &'j [u8] {
        self.0.since(mark.at)
    }

    /// Begins to read an array or object that ends with `closing`; false when it is empty, and read. Afterwards its parts are read, with
    /// [`Self::key`] before each value of an object and [`Self::goes_on`] behind each value.
    pub(super) fn enter(&mut self, closing: u8) -> Result<bool, NotJson> {
        let filled = self.0.enter(closing);
        if filled {
            self.0.descend()?;
        }
        Ok(filled)
    }

    /// Enters an object that is a message as SDKs write it, up to the value of its `content`, and returns its role; nothing is read of any other value.
    #[inline(always)]
    pub(super) fn enter_message(&mut self) -> Result<Option<Role>, NotJson> {
        let role = self.0.enter_message();
        if role.is_some() {
            self.0.descend()?;
        }
        Ok(role)
    }

    /// The key of a member of the object that was entered, as it is written.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<Written<'j>, NotJson> {
        self.0.written_key()
    }

    /// Whether the array or object that was entered has another value; otherwise it is read.
    pub(super) fn goes_on(&mut self, closing: u8) -> Result<bool, NotJson> {
        let goes_on = self.0.goes_on(closing)?;
        if !goes_on {
            self.0.ascend(self.0.depth_left() + 1);
        }
        Ok(goes_on)
    }

    /// Reads a string as it is written.
    #[inline(always)]
    pub(super) fn written(&mut self) -> Result<Written<'j>, NotJson> {
        self.0.written()
    }

    /// Reads whole numbers of an array as long as another value follows, up to so many; how many there were.
    pub(super) fn counts(&mut self, most: usize) -> usize {
        self.0.pass_counts(most)
    }

    /// Skips it.
    #[inline(always)]
    pub(super) fn skip(&mut self) -> Result<(), NotJson> {
        self.0.skip()
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
