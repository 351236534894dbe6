//! Walks along a value and its rule.

use std::borrow::Cow;

use super::{
    invalid::{Invalid, Names, Problem, Segment},
    kinds::Kinds,
    schema::{List, Map, Rule, Shape, Tag, Text, Variant},
    seen::Seen,
};
use crate::openai::{
    facts::Tool,
    json::{Leaf, NotJson, Value},
};

/// Why a walk ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The text is not JSON, or too deep.
    NotJson(NotJson),
    /// A rule is broken.
    Invalid(Box<Invalid>),
}

/// Checks values against rules, without recursion beyond that of the rules, and notes the tools on the way.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) tool: Tool,
}

type Walked = Result<(), Stop>;

/// Which variant an object is.
enum Told {
    /// The object does not say.
    Nothing,
    /// One of the tag's.
    Known(&'static str),
    /// Another one.
    Unknown,
}

impl Walk {
    /// Checks the value of a member, and reads it, unless its type is all there is to check: then the value is left to be read, and the result
    /// is false.
    pub(super) fn member(
        &mut self,
        value: &mut Value<'_>,
        shape: &'static Shape,
        number: usize,
        seen: &mut Seen,
    ) -> Result<bool, Stop> {
        let Some(member) = shape.members.get(number) else { return Ok(false) };
        let is_first = seen.note(number, value.first_byte());
        let read = match &shape.tag {
            _ if !is_first => broken(Problem::Duplicate),
            Some(tag) if tag.member == number => self.variant(value, &member.rule, tag).map(|variant| {
                seen.variant = variant;
                true
            }),
            _ => self.begin(value, &member.rule),
        };
        read.map_err(|stop| stop.within(Segment::Member(member.name)))
    }

    fn begin(&mut self, value: &mut Value<'_>, rule: &Rule) -> Result<bool, Stop> {
        let kind = kind_of(value)?;
        if !rule.kinds.have(kind) {
            return wrong_type(value, rule);
        }
        if rule.is_plain {
            return Ok(false);
        }
        self.constrained(value, rule, kind).map(|()| true)
    }

    fn value(&mut self, value: &mut Value<'_>, rule: &Rule) -> Walked {
        if !self.begin(value, rule)? {
            value.skip()?;
        }
        Ok(())
    }

    fn constrained(&mut self, value: &mut Value<'_>, rule: &Rule, kind: Kinds) -> Walked {
        match (kind, &rule.text, &rule.list, rule.object, rule.map) {
            (Kinds::STRING, Some(text), ..) => check_text(value, text),
            (Kinds::INTEGER, ..) => check_number(value, rule),
            (Kinds::ARRAY, _, Some(list), ..) => self.list(value, list),
            (Kinds::OBJECT, _, _, Some(shape), _) => self.object(value, shape),
            (Kinds::OBJECT, _, _, _, Some(map)) => self.map(value, map),
            _ => Ok(value.skip()?),
        }
    }

    fn list(&mut self, value: &mut Value<'_>, list: &List) -> Walked {
        if list.is_of_anything() {
            let filled = value.filled()?;
            return if list.least > 0 && !filled { broken(Problem::EmptyArray) } else { Ok(()) };
        }
        if !value.enter(b']')? {
            return if list.least > 0 { broken(Problem::EmptyArray) } else { Ok(()) };
        }
        let mut index = 0;
        loop {
            if index == list.most {
                let found = index + left(value, b']')?;
                return broken(Problem::ArrayTooLong { found, most: list.most });
            }
            self.value(value, list.item).map_err(|stop| stop.within(Segment::Index(index)))?;
            index += 1;
            if !value.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    fn map(&mut self, value: &mut Value<'_>, map: &Map) -> Walked {
        if !value.enter(b'}')? {
            return Ok(());
        }
        let mut count = 0;
        loop {
            if count == map.most {
                let found = count + left(value, b'}')?;
                return broken(Problem::TooManyMembers { found, most: map.most });
            }
            count += 1;
            let name = value.key()?;
            if name.len() > map.name && characters(&name, false) > map.name {
                return broken(Problem::NameTooLong { most: map.name });
            }
            self.value(value, &map.value)?;
            if !value.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, value: &mut Value<'_>, shape: &'static Shape) -> Walked {
        let mark = value.mark();
        let (invalid, tag) = match (self.members(value, shape), &shape.tag) {
            (Err(Stop::Invalid(invalid)), Some(tag)) => (invalid, tag),
            (walked, _) => return walked,
        };
        // Rare from here on. Which variant it is may stand behind the problem, and that variant may be none that is checked.
        value.rewind(mark);
        match self.told_variant(value, shape, tag)? {
            Told::Unknown if !tag.is_closed && invalid.problem != Problem::Duplicate => Ok(()),
            Told::Nothing
                if tag.is_in_path
                    && let Some(default) = tag.default_name() =>
            {
                Err(Stop::Invalid(invalid.within_variant(default, shape)))
            }
            Told::Known(name) if tag.is_in_path => Err(Stop::Invalid(invalid.within_variant(name, shape))),
            _ => Err(Stop::Invalid(invalid)),
        }
    }

    fn members(&mut self, value: &mut Value<'_>, shape: &'static Shape) -> Walked {
        let mut seen = Seen::of(shape);
        if !value.enter(b'}')? {
            return seen.check(shape);
        }
        loop {
            let key = value.key()?;
            let read = match shape.find(&key) {
                Some(number) => self.member(value, shape, number, &mut seen)?,
                None => false,
            };
            if !read {
                value.skip()?;
            }
            if !value.goes_on(b'}')? {
                return seen.check(shape);
            }
        }
    }

    /// Reads the tag of an object. `None`: a variant that is not known, or none.
    fn variant(&mut self, value: &mut Value<'_>, rule: &Rule, tag: &Tag) -> Result<Option<usize>, Stop> {
        let kind = kind_of(value)?;
        if kind != Kinds::STRING {
            return self.value(value, rule).map(|()| tag.default);
        }
        let (written, escaped) = value.written()?;
        let name = decoded(written, escaped);
        if tag.is_of_tools {
            self.tool.note(&String::from_utf8_lossy(&name));
        }
        let variant = Variant::find(tag.variants, &name);
        if variant.is_none() && tag.is_closed {
            return broken(Problem::UnknownValue { length: name.len(), allowed: Names(tag.variants) });
        }
        Ok(variant)
    }

    /// Reads an object for its tag alone.
    fn told_variant(&mut self, value: &mut Value<'_>, shape: &Shape, tag: &Tag) -> Result<Told, Stop> {
        let mut told = Told::Nothing;
        if !value.enter(b'}')? {
            return Ok(told);
        }
        loop {
            let key = value.key()?;
            let is_tag = shape.find(&key) == Some(tag.member);
            if is_tag && value.first_byte() == Some(b'"') {
                let (written, escaped) = value.written()?;
                let name = decoded(written, escaped);
                if tag.is_of_tools {
                    self.tool.note(&String::from_utf8_lossy(&name));
                }
                let known = Variant::find(tag.variants, &name).and_then(|number| tag.variants.get(number));
                told = known.map_or(Told::Unknown, |variant| Told::Known(variant.name));
            } else {
                value.skip()?;
            }
            if !value.goes_on(b'}')? {
                return Ok(told);
            }
        }
    }
}

impl Stop {
    fn within(self, segment: Segment) -> Self {
        match self {
            Self::Invalid(invalid) => Self::Invalid(invalid.within(segment)),
            Self::NotJson(_) => self,
        }
    }
}

impl From<NotJson> for Stop {
    fn from(error: NotJson) -> Self {
        Self::NotJson(error)
    }
}

pub(super) fn broken<T>(problem: Problem) -> Result<T, Stop> {
    Err(Stop::Invalid(Invalid::new(problem)))
}

/// The type of a value; that of any number is [`Kinds::INTEGER`].
fn kind_of(value: &mut Value<'_>) -> Result<Kinds, NotJson> {
    match value.first_byte().and_then(Kinds::of) {
        Some(kind) => Ok(kind),
        // Nothing begins so: the reader says where.
        None => value.skip().map(|()| Kinds::NULL),
    }
}

/// Reads the rest of an array or object, and counts what is in it.
#[cold]
fn left(value: &mut Value<'_>, closing: u8) -> Result<usize, NotJson> {
    let mut count = 0;
    loop {
        if closing == b'}' {
            value.key()?;
        }
        value.skip()?;
        count += 1;
        if !value.goes_on(closing)? {
            return Ok(count);
        }
    }
}

#[cold]
fn wrong_type<T>(value: &mut Value<'_>, rule: &Rule) -> Result<T, Stop> {
    let mut found = kind_of(value)?;
    if found == Kinds::INTEGER && matches!(value.leaf()?, Leaf::Number(number) if number.fract() != 0.0) {
        found = Kinds::NUMBER;
    }
    broken(Problem::WrongType { found, allowed: rule.kinds })
}

fn check_number(value: &mut Value<'_>, rule: &Rule) -> Walked {
    let whole = rule.kinds.wants_whole_numbers();
    let number = match value.leaf()? {
        Leaf::Count(count) => count as f64,
        Leaf::Number(number) if whole && number.fract() != 0.0 => {
            return broken(Problem::WrongType { found: Kinds::NUMBER, allowed: rule.kinds });
        }
        Leaf::Number(number) => number,
        _ => return Ok(()),
    };
    match rule.number {
        Some(span) if number < span.least => broken(Problem::TooSmall { least: span.least, whole }),
        Some(span) if number > span.most => broken(Problem::TooLarge { most: span.most, whole }),
        _ => Ok(()),
    }
}

fn check_text(value: &mut Value<'_>, text: &Text) -> Walked {
    let (written, escaped) = value.written()?;
    // There are never more characters than bytes.
    let is_short = written.len() <= text.most && (text.least == 0 || !written.is_empty());
    if is_short && !text.is_name && text.known.is_none() {
        return Ok(());
    }
    if let Some(known) = text.known {
        let word = decoded(written, escaped);
        return match Variant::find(known, &word) {
            Some(_) => Ok(()),
            None => broken(Problem::UnknownValue { length: word.len(), allowed: Names(known) }),
        };
    }
    let length = characters(written, escaped);
    if length < text.least {
        return broken(Problem::StringTooShort { length, least: text.least });
    }
    if length > text.most {
        return broken(Problem::StringTooLong { length, most: text.most });
    }
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if text.is_name && !decoded(written, escaped).iter().all(is_of_name) {
        return broken(Problem::NotAName);
    }
    Ok(())
}

/// How many characters are in a string that is written so. Half of a surrogate pair that stands alone is one, too.
fn characters(written: &[u8], escaped: bool) -> usize {
    let begins = |byte: &&u8| **byte & 0xC0 != 0x80;
    if !escaped {
        return written.iter().filter(begins).count();
    }
    let (mut rest, mut count, mut after_high) = (written, 0, false);
    while let Some((first, more)) = rest.split_first() {
        let (length, unit) = match (first, more) {
            (b'\\', [b'u', digits @ ..]) => (6, hex(digits)),
            (b'\\', _) => (2, 0),
            _ => (1, 0),
        };
        let is_low = (0xDC00..0xE000).contains(&unit);
        count += usize::from(begins(&first) && !(after_high && is_low));
        after_high = (0xD800..0xDC00).contains(&unit);
        rest = rest.get(length..).unwrap_or_default();
    }
    count
}

/// What four hexadecimal digits stand for.
fn hex(digits: &[u8]) -> u32 {
    let digits = digits.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// The bytes of a string that is written so; those that cannot be decoded stay as they are.
fn decoded(written: &[u8], escaped: bool) -> Cow<'_, [u8]> {
    if !escaped {
        return Cow::Borrowed(written);
    }
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or(Cow::Borrowed(written), |text| text.into_bytes().into())
}
