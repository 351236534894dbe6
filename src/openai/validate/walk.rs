//! Walks along a value and its rule.

use super::{
    invalid::{Invalid, Names, Problem},
    kinds::Kinds,
    member_set::MemberSet,
    notation::Segment,
    schema::{List, Map, Rule, Shape, Tag, Variant, decoded},
};
use crate::openai::{
    facts::Tool,
    json::{Leaf, NotJson, Value, Written},
};

/// Checks values against rules, and notes the tools on the way. It recurs only as deep as the rules are.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) tool: Tool,
    /// Why the walk has ended.
    stop: Option<Stop>,
}

/// Why a walk ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The text is not JSON, or too deep.
    NotJson(NotJson),
    /// A rule is broken.
    Invalid(Box<Invalid>),
}

/// The walk has ended: [`Walk::stopped`] says why. Nothing but this is handed down, so that it costs next to nothing where all is well.
#[derive(Debug)]
pub(super) struct Halt;

type Walked = Result<(), Halt>;

/// Which variant an object is.
enum TagValue {
    /// The object does not say.
    Nothing,
    /// One of the tag's.
    Known(&'static str),
    /// Another one.
    Unknown,
}

impl Walk {
    /// Why the walk has ended.
    pub(super) fn stopped(&mut self) -> Stop {
        self.stop.take().unwrap_or(Stop::Invalid(Invalid::new(Problem::Missing)))
    }

    /// Checks the value of a member, and reads it, unless its type is all there is to check: then the value is left to be read, and the result
    /// is false.
    #[inline(always)]
    pub(super) fn member(
        &mut self,
        value: &mut Value<'_>,
        shape: &'static Shape,
        number: usize,
        seen: &mut MemberSet,
    ) -> Result<bool, Halt> {
        let Some(member) = shape.members.get(number) else { return Ok(false) };
        let Some(first) = value.first_byte() else { return self.read(value.skip()).map(|()| true) };
        if !seen.note(number, first) {
            return self
                .broken(Problem::Duplicate)
                .map_err(|halt| self.within(Segment::Member(member.name), halt));
        }
        let read = match &shape.tag {
            Some(tag) if tag.member == number && first == b'"' => {
                self.variant(value, tag, seen).map(|()| true)
            }
            _ => self.begin(value, &member.rule, first),
        };
        read.map_err(|halt| self.within(Segment::Member(member.name), halt))
    }

    /// Checks a value that begins with this byte, and reads it, unless its type is all there is to check.
    #[inline(always)]
    fn begin(&mut self, value: &mut Value<'_>, rule: &Rule, first: u8) -> Result<bool, Halt> {
        let kind = Kinds::of(first);
        if !rule.kinds.have(kind) {
            return self.wrong_type(value, rule);
        }
        if rule.is_filled && value.is_empty_string() {
            return self.broken(Problem::StringTooShort { length: 0, least: 1 });
        }
        if rule.is_plain {
            return Ok(false);
        }
        match first {
            b'[' | b'{' => self.nested(value, rule, first)?,
            b'"' => self.text(value, rule)?,
            b'n' | b't' | b'f' => return Ok(false),
            _ => self.number(value, rule)?,
        }
        Ok(true)
    }

    fn nested(&mut self, value: &mut Value<'_>, rule: &Rule, first: u8) -> Walked {
        match (first, &rule.list, rule.object, rule.map) {
            (b'[', Some(list), ..) => self.list(value, list),
            (b'{', _, Some(shape), _) => self.object(value, shape),
            (b'{', _, _, Some(map)) => self.map(value, map),
            _ => self.read(value.skip()),
        }
    }

    fn list(&mut self, value: &mut Value<'_>, list: &List) -> Walked {
        if list.is_of_anything {
            let filled = self.read(value.filled())?;
            return if list.least > 0 && !filled { self.broken(Problem::EmptyArray) } else { Ok(()) };
        }
        if !self.read(value.enter(b']'))? {
            return if list.least > 0 { self.broken(Problem::EmptyArray) } else { Ok(()) };
        }
        let mut index = if list.may_be_counts { value.counts(list.most) } else { 0 };
        loop {
            if index == list.most {
                let found = index + self.left(value, b']')?;
                return self.broken(Problem::ArrayTooLong { found, most: list.most });
            }
            self.value(value, list.item).map_err(|halt| self.within(Segment::Index(index), halt))?;
            index += 1;
            if !self.read(value.goes_on(b']'))? {
                return Ok(());
            }
        }
    }

    #[inline]
    fn value(&mut self, value: &mut Value<'_>, rule: &Rule) -> Walked {
        let first = value.first_byte().unwrap_or_default();
        if self.begin(value, rule, first)? { Ok(()) } else { self.read(value.skip()) }
    }

    fn map(&mut self, value: &mut Value<'_>, map: &Map) -> Walked {
        if !self.read(value.enter(b'}'))? {
            return Ok(());
        }
        let mut count = 0;
        loop {
            if count == map.most {
                let found = count + self.left(value, b'}')?;
                return self.broken(Problem::TooManyMembers { found, most: map.most });
            }
            count += 1;
            let name = self.read(value.key())?;
            if name.text.len() > map.name && characters(&name) > map.name {
                return self.broken(Problem::NameTooLong { most: map.name });
            }
            self.value(value, &map.value)?;
            if !self.read(value.goes_on(b'}'))? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, value: &mut Value<'_>, shape: &'static Shape) -> Walked {
        let mark = value.mark();
        let walked = self.members(value, shape);
        if walked.is_ok() || shape.tag.is_none() {
            return walked;
        }
        value.rewind(mark);
        self.forgive(value, shape)
    }

    #[inline]
    fn members(&mut self, value: &mut Value<'_>, shape: &'static Shape) -> Walked {
        let mut seen = MemberSet::of(shape);
        if let Some(message) = &shape.message
            && let Some(role) = self.read(value.enter_message())?
        {
            seen.note(message.role, b'"');
            seen.variant = message.variant(role).or(seen.variant);
            if !self.value_of(value, shape, message.content, &mut seen)? {
                return self.check(&seen, shape);
            }
        } else if !self.read(value.enter(b'}'))? {
            return self.check(&seen, shape);
        }
        loop {
            let key = self.read(value.key())?;
            if !self.value_of(value, shape, shape.find(&key), &mut seen)? {
                return self.check(&seen, shape);
            }
        }
    }

    /// Reads the value of a member, of which a rule says something if it has a number; whether another member follows.
    #[inline(always)]
    fn value_of(
        &mut self,
        value: &mut Value<'_>,
        shape: &'static Shape,
        number: Option<usize>,
        seen: &mut MemberSet,
    ) -> Result<bool, Halt> {
        let read = match number {
            Some(number) => self.member(value, shape, number, seen)?,
            None => false,
        };
        if !read {
            self.read(value.skip())?;
        }
        self.read(value.goes_on(b'}'))
    }

    /// Reads the tag of an object.
    #[inline]
    fn variant(&mut self, value: &mut Value<'_>, tag: &Tag, seen: &mut MemberSet) -> Walked {
        let name = self.read(value.written())?;
        if tag.is_of_tools {
            self.note_tool(&name);
        }
        seen.variant = Variant::find(tag.variants, &name);
        if seen.variant.is_none() && tag.is_closed {
            return self.unknown_value(&name, tag.variants);
        }
        Ok(())
    }

    /// An object with a problem, from its beginning: which variant it is may stand behind the problem, and that variant may be none that is
    /// checked. Then there is no problem, except that no member may be there twice.
    #[cold]
    fn forgive(&mut self, value: &mut Value<'_>, shape: &'static Shape) -> Walked {
        let (invalid, tag) = match (self.stopped(), &shape.tag) {
            (Stop::Invalid(invalid), Some(tag)) => (invalid, tag),
            (stop, _) => return self.halt(stop),
        };
        let variant = match self.tag_value(value, shape, tag)? {
            TagValue::Unknown if !tag.is_closed && invalid.problem != Problem::Duplicate => return Ok(()),
            TagValue::Unknown => None,
            TagValue::Known(name) => Some(name),
            TagValue::Nothing => tag.default_name(),
        };
        self.halt(Stop::Invalid(match variant {
            Some(name) if tag.is_in_path => invalid.within_variant(name, shape),
            _ => invalid,
        }))
    }

    /// Reads an object for its tag alone.
    fn tag_value(&mut self, value: &mut Value<'_>, shape: &Shape, tag: &Tag) -> Result<TagValue, Halt> {
        let mut found = TagValue::Nothing;
        if !self.read(value.enter(b'}'))? {
            return Ok(found);
        }
        loop {
            let key = self.read(value.key())?;
            if shape.find(&key) == Some(tag.member) && value.first_byte() == Some(b'"') {
                let name = self.read(value.written())?;
                if tag.is_of_tools {
                    self.note_tool(&name);
                }
                let known = Variant::find(tag.variants, &name).and_then(|number| tag.variants.get(number));
                found = known.map_or(TagValue::Unknown, |variant| TagValue::Known(variant.name));
            } else {
                self.read(value.skip())?;
            }
            if !self.read(value.goes_on(b'}'))? {
                return Ok(found);
            }
        }
    }

    fn note_tool(&mut self, name: &Written<'_>) {
        self.tool.note(&String::from_utf8_lossy(&decoded(name)));
    }

    fn number(&mut self, value: &mut Value<'_>, rule: &Rule) -> Walked {
        let whole = rule.kinds.wants_whole_numbers();
        let number = match self.read(value.leaf())? {
            Leaf::Count(count) => count as f64,
            Leaf::Number(number) if whole && number.fract() != 0.0 => {
                return self.broken(Problem::WrongType { found: Kinds::NUMBER, allowed: rule.kinds });
            }
            Leaf::Number(number) => number,
            _ => return Ok(()),
        };
        match rule.number {
            Some(span) if number < span.least => self.broken(Problem::TooSmall { least: span.least, whole }),
            Some(span) if number > span.most => self.broken(Problem::TooLarge { most: span.most, whole }),
            _ => Ok(()),
        }
    }

    fn text(&mut self, value: &mut Value<'_>, rule: &Rule) -> Walked {
        let Some(text) = &rule.text else { return self.read(value.skip()) };
        let string = self.read(value.written())?;
        if let Some(known) = text.known {
            let is_known = Variant::find(known, &string).is_some();
            return if is_known { Ok(()) } else { self.unknown_value(&string, known) };
        }
        // There are never more characters than bytes.
        if string.text.len() > text.most {
            let length = characters(&string);
            if length > text.most {
                return self.broken(Problem::StringTooLong { length, most: text.most });
            }
        }
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_name && !decoded(&string).iter().all(is_of_name) {
            return self.broken(Problem::NotAName);
        }
        Ok(())
    }

    /// Whether all members are there that must be.
    #[inline]
    fn check(&mut self, seen: &MemberSet, shape: &Shape) -> Walked {
        match seen.lacking(shape) {
            0 => Ok(()),
            lacking => self.halt(Stop::Invalid(seen.lacks(shape, lacking))),
        }
    }

    /// Reads the rest of an array or object, and counts what is in it.
    #[cold]
    fn left(&mut self, value: &mut Value<'_>, closing: u8) -> Result<usize, Halt> {
        let mut count = 0;
        loop {
            if closing == b'}' {
                self.read(value.key())?;
            }
            self.read(value.skip())?;
            count += 1;
            if !self.read(value.goes_on(closing))? {
                return Ok(count);
            }
        }
    }

    #[inline(always)]
    fn read<T>(&mut self, read: Result<T, NotJson>) -> Result<T, Halt> {
        read.or_else(|error| self.halt(Stop::NotJson(error)))
    }

    #[cold]
    fn unknown_value<T>(&mut self, name: &Written<'_>, known: &'static [Variant]) -> Result<T, Halt> {
        self.broken(Problem::UnknownValue { length: decoded(name).len(), allowed: Names(known) })
    }

    #[cold]
    fn wrong_type<T>(&mut self, value: &mut Value<'_>, rule: &Rule) -> Result<T, Halt> {
        let mut found = Kinds::of(value.first_byte().unwrap_or_default());
        if found == Kinds::NONE {
            // Nothing begins so: the reader says where.
            self.read(value.skip())?;
        }
        if found == Kinds::INTEGER
            && matches!(self.read(value.leaf())?, Leaf::Number(number) if number.fract() != 0.0)
        {
            found = Kinds::NUMBER;
        }
        self.broken(Problem::WrongType { found, allowed: rule.kinds })
    }

    #[cold]
    fn broken<T>(&mut self, problem: Problem) -> Result<T, Halt> {
        self.halt(Stop::Invalid(Invalid::new(problem)))
    }

    #[cold]
    fn halt<T>(&mut self, stop: Stop) -> Result<T, Halt> {
        self.stop = Some(stop);
        Err(Halt)
    }

    /// Notes that the problem is in this part of what surrounds it.
    #[cold]
    fn within(&mut self, segment: Segment, halt: Halt) -> Halt {
        if let Some(Stop::Invalid(invalid)) = &mut self.stop {
            invalid.within(segment);
        }
        halt
    }
}

/// How many characters are in a string. Half of a surrogate pair that stands alone is one, too.
fn characters(string: &Written<'_>) -> usize {
    let begins = |byte: &&u8| **byte & 0xC0 != 0x80;
    if !string.is_escaped() {
        return string.text.iter().filter(begins).count();
    }
    let (mut rest, mut count, mut after_high) = (string.text, 0, false);
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
