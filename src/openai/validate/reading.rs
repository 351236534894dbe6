//! Reads a request's facts and checks it, in one pass.

use super::{
    invalid::{CheckError, Invalid, Problem},
    kinds::Kinds,
    member_set::MemberSet,
    notation::{Notation, Segment},
    schema::{OnlyWith, Shape, Unless, decoded},
    walk::{Halt, Stop, Walk},
};
use crate::openai::{
    Facts, FactsError,
    facts::Request,
    json::{self, NotJson, Object, Unread, Value, Written},
};

/// How deep objects and arrays may be nested in a request that is checked. (serde_json and others stop at 128.)
pub const DEPTH_LIMIT: usize = 128;

/// The rules for one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) shape: &'static Shape,
    pub(super) notation: Notation,
    /// The model may be missing.
    pub(super) model_elsewhere: bool,
}

/// Reads the facts of a body, and checks it on the way.
pub(super) fn read(rules: Rules, body: &[u8]) -> Result<Facts, CheckError> {
    let Some(first) = body.trim_ascii_start().first() else { return Err(FactsError::Empty.into()) };
    let shape = rules.shape;
    let mut reading = Reading {
        shape,
        seen: MemberSet::of(shape),
        walk: Walk::default(),
        request: Request::default(),
        emptied: 0,
        invalid: None,
    };
    let problem = match json::read_with(body, DEPTH_LIMIT, |document| reading.document(document)) {
        Err(Unread::NotJson(NotJson { at })) => return Err(FactsError::not_json(body, at).into()),
        Err(Unread::TooDeep) => Some(Invalid::new(Problem::TooDeep { most: DEPTH_LIMIT })),
        Ok(()) if *first != b'{' => Some(Invalid::new(Problem::NotAnObject { found: Kinds::of(*first) })),
        Ok(()) => reading.invalid.take().or_else(|| reading.lacking(rules)),
    };
    match problem {
        Some(invalid) => Err(CheckError::Invalid(invalid.written(rules.notation))),
        None => Ok(reading.request.facts(body)?),
    }
}

/// A request object that is being read.
struct Reading {
    shape: &'static Shape,
    seen: MemberSet,
    walk: Walk,
    request: Request,
    /// Bits of the members that are empty arrays.
    emptied: u64,
    /// The first problem. The rest of the body is still read, because a body that is not JSON at all is the more useful error.
    invalid: Option<Box<Invalid>>,
}

impl Reading {
    fn document(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        if value.first_byte() != Some(b'{') {
            return value.skip();
        }
        if !value.enter(b'}')? {
            return Ok(());
        }
        loop {
            let key = value.key()?;
            self.member(&key, value)?;
            if !value.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    fn member(&mut self, key: &Written<'_>, value: &mut Value<'_>) -> Result<(), NotJson> {
        if self.invalid.is_some() {
            return value.skip();
        }
        let Some(number) = self.shape.find(key) else { return self.fact(key, value) };
        let mark = value.mark();
        let is_fact = self.shape.facts >> number & 1 == 1;
        match self.walk.member(value, self.shape, number, &mut self.seen) {
            Ok(false) if is_fact => self.fact(key, value),
            Ok(false) => value.skip(),
            Ok(true) if is_fact && key.text == b"tools" => {
                self.request.note_tools(&self.walk.tool);
                Ok(())
            }
            Ok(true) if is_fact => {
                value.rewind(mark);
                self.fact(key, value)
            }
            Ok(true) => {
                if is_empty_array(value.since(mark)) {
                    self.emptied |= 1 << number;
                    self.seen.empty(number);
                }
                Ok(())
            }
            Err(Halt) => match self.walk.stopped() {
                Stop::NotJson(error) => Err(error),
                Stop::Invalid(invalid) => {
                    self.invalid = Some(invalid);
                    value.rewind(mark);
                    value.skip()
                }
            },
        }
    }

    /// Reads a member for the facts of the request.
    fn fact(&mut self, key: &Written<'_>, value: &mut Value<'_>) -> Result<(), NotJson> {
        if key.is_escaped() {
            self.request.member(&decoded(key), value)
        } else {
            self.request.member(key.text, value)
        }
    }

    /// What is lacking of the object, now that all of it is known.
    fn lacking(&mut self, rules: Rules) -> Option<Box<Invalid>> {
        if rules.model_elsewhere
            && let Some(model) = self.shape.find_name(b"model")
        {
            self.seen.assume(model);
        }
        let lacking = self.seen.lacking(self.shape);
        if lacking != 0 {
            return Some(self.seen.lacks(self.shape, lacking));
        }
        let missing = self.shape.unless.iter().find_map(|unless| self.is_missing(unless));
        missing.or_else(|| self.shape.only_with.iter().find_map(|rule| self.is_alone(rule)))
    }

    fn is_missing(&self, Unless { member, bits }: &Unless) -> Option<Box<Invalid>> {
        if *bits == 0 || self.seen.filled & bits != 0 {
            return None;
        }
        let is_empty = self.emptied >> member & 1 == 1;
        Some(self.at(*member, if is_empty { Problem::EmptyArray } else { Problem::Missing }))
    }

    fn is_alone(&self, OnlyWith { member, other }: &OnlyWith) -> Option<Box<Invalid>> {
        let is_filled = |number: usize| self.seen.filled >> number & 1 == 1;
        if !is_filled(*member) || is_filled(*other) {
            return None;
        }
        let other = self.shape.members.get(*other)?.name;
        Some(self.at(*member, Problem::Needs { other }))
    }

    #[cold]
    fn at(&self, member: usize, problem: Problem) -> Box<Invalid> {
        let mut invalid = Invalid::new(problem);
        if let Some(member) = self.shape.members.get(member) {
            invalid.within(Segment::Member(member.name));
        }
        invalid
    }
}

fn is_empty_array(written: &[u8]) -> bool {
    let inner = written.trim_ascii_start().strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    inner.is_some_and(|inner| inner.trim_ascii_start().is_empty())
}
