//! The rules for requests, as data: which values a member may have, and which members an object.
//!
//! A [`Rule`] is built up in words: `string().up_to(64).or_null()`. Everything is made when the program is compiled, so a table of rules is a
//! `static` and costs nothing at run time. What a rule does not mention is allowed.

#![expect(clippy::panic, reason = "tables are made by the compiler, which stops at a mistake in one")]

use std::borrow::Cow;

use super::{kinds::Kinds, notation::Notation};
use crate::openai::{
    facts::FACTS,
    json::{Role, Written, word_of},
};

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Types that are allowed.
    pub(super) kinds: Kinds,
    /// The type of a value is all there is to check, or that a string is not empty.
    pub(super) is_plain: bool,
    /// A string may not be empty.
    pub(super) is_filled: bool,
    /// Of a string.
    pub(super) text: Option<Text>,
    /// Of a number.
    pub(super) number: Option<Span>,
    /// Of an array.
    pub(super) list: Option<List>,
    /// Of an object whose members have names of their own.
    pub(super) object: Option<&'static Shape>,
    /// Of an object whose names the client chooses.
    pub(super) map: Option<&'static Map>,
}

/// How long a string may be, in characters, and what it is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) most: usize,
    /// Only letters, digits, `_` and `-`.
    pub(super) is_name: bool,
    /// One of these.
    pub(super) known: Option<&'static [Variant]>,
}

/// Between which numbers a number may be, both included. (All limits are exact as `f64`.)
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) least: f64,
    pub(super) most: f64,
}

/// How many values an array may have, and which.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) item: &'static Rule,
    /// Nothing is said of the items, nor of how many there are at most.
    pub(super) is_of_anything: bool,
    /// An item may be any whole number.
    pub(super) may_be_counts: bool,
}

/// An object whose names the client chooses.
#[derive(Debug)]
pub(super) struct Map {
    /// Most members.
    pub(super) most: usize,
    /// Longest name, in characters.
    pub(super) name: usize,
    pub(super) value: Rule,
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    /// The beginning of the name.
    word: u64,
    is_required: bool,
}

/// An object: its members, of which it may have others as well.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) members: &'static [Member],
    /// Bits of the members that must be there.
    pub(super) required: u64,
    /// The member that says which variant of several the object is.
    pub(super) tag: Option<Tag>,
    /// What must be there unless something else is.
    pub(super) unless: [Unless; RELATIONS],
    /// What is allowed only together with something else.
    pub(super) only_with: [OnlyWith; RELATIONS],
    /// Where the object is a message.
    pub(super) message: Option<Message>,
    /// Bits of the members whose values are facts of a request.
    pub(super) facts: u64,
    /// Numbers of the members by the hash of their names.
    slots: [u8; SLOTS],
}

/// The rules for the requests of an operation.
#[derive(Debug)]
pub(super) struct Schema {
    /// What is always checked.
    pub(super) basic: Shape,
    /// What is checked with "strict" instead.
    pub(super) strict: Shape,
    pub(super) notation: Notation,
}

/// A member must be there, and not as an empty array, unless one of some others is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unless {
    /// The number of the member.
    pub(super) member: usize,
    /// Its bit, and those of the others; 0: no rule.
    pub(super) bits: u64,
}

/// A member is allowed only if another one is there, and not `null` or `false`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnlyWith {
    /// Number of the member.
    pub(super) member: usize,
    /// Number of the other one; the same: no rule.
    pub(super) other: usize,
}

/// The member that says which of several variants an object is: a `role`, a `type`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    /// Its number.
    pub(super) member: usize,
    pub(super) variants: &'static [Variant],
    /// Bits of what each variant must have, and not as `null`.
    pub(super) needs: [u64; VARIANTS],
    /// Other values are refused. Where they are not, an object with one is not checked at all.
    pub(super) is_closed: bool,
    /// What an object without the member is.
    pub(super) default: Option<usize>,
    /// The variant is named in the path of a parameter, as Anthropic does.
    pub(super) is_in_path: bool,
    /// The object is a tool, whose type is a fact of the request.
    pub(super) is_of_tools: bool,
}

/// A message, whose `role` may be "user" and "assistant".
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    /// The number of `role`.
    pub(super) role: usize,
    /// The number of `content`, if anything is said of it.
    pub(super) content: Option<usize>,
    /// Which variants these roles are, if roles are variants.
    variants: [Option<usize>; 2],
}

/// One of several variants of an object.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// The beginning of the name.
    word: u64,
    /// Members that it must have, and not as `null`.
    needs: &'static [&'static str],
}

/// Most members of a shape: one bit each.
const MEMBERS: usize = 64;
const SLOTS: usize = 128;
const VARIANTS: usize = 32;
/// Most rules of a kind between members of a shape.
const RELATIONS: usize = 2;
const NO_MEMBER: u8 = u8::MAX;

/// Anything.
pub(super) const ANY: Rule = of(Kinds::ANY);
pub(super) const STRING: Rule = of(Kinds::STRING);
pub(super) const NUMBER: Rule = of(Kinds::NUMBER);
pub(super) const INTEGER: Rule = of(Kinds::INTEGER);
pub(super) const BOOLEAN: Rule = of(Kinds::BOOLEAN);
/// An object in which anything may be.
pub(super) const OBJECT: Rule = of(Kinds::OBJECT);
/// An array in which anything may be.
pub(super) const ARRAY: Rule = of(Kinds::ARRAY);

const fn of(kinds: Kinds) -> Rule {
    let is_plain = !kinds.wants_whole_numbers();
    Rule { kinds, is_plain, is_filled: false, text: None, number: None, list: None, object: None, map: None }
}

/// An array of such values.
pub(super) const fn list(item: &'static Rule) -> Rule {
    Rule { list: Some(List::of(item, 0, usize::MAX)), is_plain: false, ..ARRAY }
}

/// An object of this shape.
pub(super) const fn object(shape: &'static Shape) -> Rule {
    Rule { object: Some(shape), is_plain: false, ..OBJECT }
}

/// An object whose names the client chooses.
pub(super) const fn map(map: &'static Map) -> Rule {
    Rule { map: Some(map), is_plain: false, ..OBJECT }
}

/// A name as of a function: letters, digits, `_` and `-`, up to so many.
pub(super) const fn name(most: usize) -> Rule {
    Rule { text: Some(Text { most, is_name: true, known: None }), is_plain: false, is_filled: true, ..STRING }
}

/// One of these words.
pub(super) const fn one_of(known: &'static [Variant]) -> Rule {
    Rule {
        text: Some(Text { most: usize::MAX, is_name: false, known: Some(known) }),
        is_plain: false,
        ..STRING
    }
}

impl Rule {
    /// `null` is allowed as well.
    pub(super) const fn or_null(self) -> Self {
        Self { kinds: self.kinds.and(Kinds::NULL), ..self }
    }

    /// What the other rule allows is allowed as well. The two have no type in common.
    pub(super) const fn or(self, other: Self) -> Self {
        assert!(self.kinds.in_common(other.kinds).is_none(), "two rules for one type");
        Self {
            kinds: self.kinds.and(other.kinds),
            is_plain: self.is_plain && other.is_plain,
            is_filled: self.is_filled || other.is_filled,
            text: if self.text.is_some() { self.text } else { other.text },
            number: if self.number.is_some() { self.number } else { other.number },
            list: if self.list.is_some() { self.list } else { other.list },
            object: if self.object.is_some() { self.object } else { other.object },
            map: if self.map.is_some() { self.map } else { other.map },
        }
    }

    /// The number is between these, both included.
    pub(super) const fn between(self, least: f64, most: f64) -> Self {
        Self { number: Some(Span { least, most }), is_plain: false, ..self }
    }

    /// The number is not below this.
    pub(super) const fn from(self, least: f64) -> Self {
        self.between(least, f64::INFINITY)
    }

    /// The string is not empty.
    pub(super) const fn filled(self) -> Self {
        Self { is_filled: true, ..self }
    }

    /// The array has at least so many items.
    pub(super) const fn at_least(self, least: usize) -> Self {
        let Some(list) = self.list else { panic!("no array") };
        Self { list: Some(List::of(list.item, least, list.most)), ..self }
    }

    /// The array has at most so many items; or the string so many characters.
    pub(super) const fn up_to(self, most: usize) -> Self {
        match self.list {
            Some(list) => Self { list: Some(List::of(list.item, list.least, most)), ..self },
            None => Self { text: Some(Text { most, is_name: false, known: None }), is_plain: false, ..self },
        }
    }
}

/// A member that may be left out.
pub(super) const fn member(name: &'static str, rule: Rule) -> Member {
    Member { name, rule, word: word_of(name.as_bytes()), is_required: false }
}

/// A member that must be there.
pub(super) const fn required(name: &'static str, rule: Rule) -> Member {
    Member { name, rule, word: word_of(name.as_bytes()), is_required: true }
}

/// A word, or a variant of this name that needs no members.
pub(super) const fn word(name: &'static str) -> Variant {
    variant(name, &[])
}

/// A variant of this name, with the members that it must have, and not as `null`.
pub(super) const fn variant(name: &'static str, needs: &'static [&'static str]) -> Variant {
    Variant { name, word: word_of(name.as_bytes()), needs }
}

impl Shape {
    /// An object with these members, at most 64.
    pub(super) const fn of(members: &'static [Member]) -> Self {
        assert!(members.len() <= MEMBERS, "too many members");
        let mut slots = [NO_MEMBER; SLOTS];
        let (mut required, mut facts, mut number) = (0, 0, 0);
        while number < members.len() {
            let mut slot = slot_of(members[number].word, members[number].name.len());
            while slots[slot] != NO_MEMBER {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = number as u8;
            if members[number].is_required {
                required |= 1 << number;
            }
            if is_fact(members[number].name) {
                facts |= 1 << number;
            }
            number += 1;
        }
        let unless = [Unless { member: 0, bits: 0 }; RELATIONS];
        let only_with = [OnlyWith { member: 0, other: 0 }; RELATIONS];
        Self { members, required, tag: None, unless, only_with, message: None, facts, slots }
    }

    /// The member must be there, and not as an empty array, unless one of the others is.
    pub(super) const fn unless(mut self, member: &str, others: &[&str]) -> Self {
        let member = self.number_of(member);
        let (mut bits, mut other) = (1 << member, 0);
        while other < others.len() {
            bits |= 1 << self.number_of(others[other]);
            other += 1;
        }
        let mut number = 0;
        while self.unless[number].bits != 0 {
            number += 1;
        }
        self.unless[number] = Unless { member, bits };
        self
    }

    /// The member is allowed only together with the other one.
    pub(super) const fn only_with(mut self, member: &str, other: &str) -> Self {
        let mut number = 0;
        while self.only_with[number].member != self.only_with[number].other {
            number += 1;
        }
        self.only_with[number] = OnlyWith { member: self.number_of(member), other: self.number_of(other) };
        self
    }

    /// The member `tag` says which of these variants an object is; another value of it is refused.
    pub(super) const fn by(self, tag: &'static str, variants: &'static [Variant]) -> Self {
        self.tagged(tag, variants, true)
    }

    /// The member `tag` says which of these variants an object is; with another value of it the object is not checked.
    pub(super) const fn by_known(self, tag: &'static str, variants: &'static [Variant]) -> Self {
        self.tagged(tag, variants, false)
    }

    /// An object without the tag is of this variant.
    pub(super) const fn or_else(self, name: &'static str) -> Self {
        let Some(mut tag) = self.tag else { panic!("a shape without variants") };
        let mut number = 0;
        while !same(tag.variants[number].name, name) {
            number += 1;
        }
        tag.default = Some(number);
        Self { tag: Some(tag), ..self }
    }

    /// The path of a parameter names the variant.
    pub(super) const fn in_path(self) -> Self {
        let Some(mut tag) = self.tag else { panic!("a shape without variants") };
        tag.is_in_path = true;
        Self { tag: Some(tag), ..self }
    }

    /// The object is a message: its `role` may be "user" and "assistant".
    pub(super) const fn of_messages(self) -> Self {
        let role = self.number_of("role");
        let variants = match (&self.tag, &self.members[role].rule.text) {
            (Some(tag), _) if tag.member == role => {
                [Some(number_in(tag.variants, "user")), Some(number_in(tag.variants, "assistant"))]
            }
            (_, Some(Text { known: Some(known), .. })) => {
                let _ = [number_in(known, "user"), number_in(known, "assistant")];
                [None; 2]
            }
            _ => panic!("a role that may be anything"),
        };
        let mut content = None;
        let mut number = 0;
        while number < self.members.len() {
            if same(self.members[number].name, "content") {
                content = Some(number);
            }
            number += 1;
        }
        Self { message: Some(Message { role, content, variants }), ..self }
    }

    /// The object is a tool: its tag is noted for the facts of the request.
    pub(super) const fn of_tools(self) -> Self {
        let Some(mut tag) = self.tag else { panic!("a shape without variants") };
        tag.is_of_tools = true;
        Self { tag: Some(tag), ..self }
    }

    const fn tagged(self, name: &'static str, variants: &'static [Variant], is_closed: bool) -> Self {
        let mut needs = [0; VARIANTS];
        let mut number = 0;
        while number < variants.len() {
            let mut need = 0;
            while need < variants[number].needs.len() {
                needs[number] |= 1 << self.number_of(variants[number].needs[need]);
                need += 1;
            }
            number += 1;
        }
        let member = self.number_of(name);
        let tag =
            Tag { member, variants, needs, is_closed, default: None, is_in_path: false, is_of_tools: false };
        Self { tag: Some(tag), ..self }
    }

    const fn number_of(&self, name: &str) -> usize {
        let mut number = 0;
        while !same(self.members[number].name, name) {
            number += 1;
        }
        number
    }

    /// The number of the member with this key.
    #[inline(always)]
    pub(super) fn find(&self, key: &Written<'_>) -> Option<usize> {
        if key.is_escaped() {
            return self.find_name(&decoded(key));
        }
        self.find_written(key.word, key.text)
    }

    /// The number of the member with this name.
    #[inline(never)]
    pub(super) fn find_name(&self, name: &[u8]) -> Option<usize> {
        self.find_written(word_of(name), name)
    }

    #[inline(always)]
    fn find_written(&self, word: u64, name: &[u8]) -> Option<usize> {
        let mut slot = slot_of(word, name.len());
        loop {
            let number = usize::from(self.slots[slot % SLOTS]);
            // Past the end for NO_MEMBER.
            let member = self.members.get(number)?;
            if member.word == word && is_same(member.name.as_bytes(), name) {
                return Some(number);
            }
            slot += 1;
        }
    }
}

impl Tag {
    /// The name of the variant that an object without the tag is.
    pub(super) fn default_name(&self) -> Option<&'static str> {
        self.variants.get(self.default?).map(|variant| variant.name)
    }
}

impl Message {
    /// Which variant a message of this role is, if roles are variants.
    pub(super) fn variant(&self, role: Role) -> Option<usize> {
        let [user, assistant] = self.variants;
        match role {
            Role::User => user,
            Role::Assistant => assistant,
        }
    }
}

impl List {
    const fn of(item: &'static Rule, least: usize, most: usize) -> Self {
        let is_of_anything = most == usize::MAX && item.is_plain && item.kinds.have(Kinds::ANY);
        let may_be_counts = item.kinds.have(Kinds::INTEGER) && item.number.is_none();
        Self { least, most, item, is_of_anything, may_be_counts }
    }
}

impl Variant {
    #[inline(never)]
    fn find_name(variants: &[Self], name: &[u8]) -> Option<usize> {
        variants.iter().position(|variant| variant.name.as_bytes() == name)
    }

    /// The number of the variant with this name.
    #[inline(always)]
    pub(super) fn find(variants: &[Self], name: &Written<'_>) -> Option<usize> {
        if name.is_escaped() {
            return Self::find_name(variants, &decoded(name));
        }
        let is_it = |variant: &Self| variant.word == name.word && is_same(variant.name.as_bytes(), name.text);
        variants.iter().position(is_it)
    }
}

/// Whether the value of a member is a fact of the request.
const fn is_fact(name: &str) -> bool {
    let mut at = 0;
    while at < FACTS.len() {
        if same(FACTS[at], name) {
            return true;
        }
        at += 1;
    }
    false
}

/// Where the search for a name begins: multiplying mixes all of its bytes into the highest bits.
const fn slot_of(word: u64, length: usize) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    ((word ^ (length as u64) << 56).wrapping_mul(FACTOR) >> (64 - SLOTS.trailing_zeros())) as usize
}

/// Whether two names are the same whose first eight bytes are.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one.len() <= 8 || one[8..] == other[8..])
}

/// The bytes of a string; those that cannot be decoded stay as they are.
pub(super) fn decoded<'j>(string: &Written<'j>) -> Cow<'j, [u8]> {
    if !string.is_escaped() {
        return Cow::Borrowed(string.text);
    }
    let quoted = [b"\"", string.text, b"\""].concat();
    let decoded = serde_json::from_slice::<String>(&quoted);
    decoded.map_or(Cow::Borrowed(string.text), |text| text.into_bytes().into())
}

/// The number of the variant with this name.
const fn number_in(variants: &[Variant], name: &str) -> usize {
    let mut number = 0;
    while !same(variants[number].name, name) {
        number += 1;
    }
    number
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}
