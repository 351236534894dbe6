//! Reads a request's facts and checks it, in one pass.

use super::{
    Check, CheckError, DEPTH_LIMIT, Level,
    invalid::{Invalid, Problem, Segment},
    kinds::Kinds,
    schema::{OnlyWith, Shape, Unless},
    seen::Seen,
    walk::{Stop, Walk},
};
use crate::openai::{
    Facts, FactsError,
    facts::{self, Request},
    json::{self, NotJson, Object, Shape as JsonShape, Unread, Value},
};

/// Reads the facts of a body, and checks it on the way.
pub(super) fn read(check: Check, body: &[u8]) -> Result<Facts, CheckError> {
    if body.trim_ascii_start().is_empty() {
        return Err(FactsError::Empty.into());
    }
    let shape = check.shape();
    let mut reading = Reading {
        shape,
        seen: Seen::of(shape),
        walk: Walk::default(),
        request: Request::default(),
        emptied: 0,
        invalid: None,
    };
    let problem = match json::read_within(body, DEPTH_LIMIT, &mut reading) {
        Err(Unread::NotJson(NotJson { at })) => return Err(FactsError::not_json(body, at).into()),
        Err(Unread::TooDeep) => Some(Invalid::new(Problem::TooDeep { most: DEPTH_LIMIT })),
        Ok(JsonShape::Object) => reading.invalid.take().or_else(|| reading.lacking(check)),
        Ok(_) => {
            let first = body.trim_ascii_start().first().copied().and_then(Kinds::of);
            Some(Invalid::new(Problem::NotAnObject { found: first.unwrap_or(Kinds::NULL) }))
        }
    };
    match problem {
        Some(invalid) => Err(CheckError::Invalid(invalid.written(check.schema.notation))),
        None => Ok(reading.request.facts(body)?),
    }
}

/// A request object that is being read.
struct Reading {
    shape: &'static Shape,
    seen: Seen,
    walk: Walk,
    request: Request,
    /// Bits of the members that are empty arrays.
    emptied: u64,
    /// The first problem. The rest of the body is still read, because a body that is not JSON at all is the more useful error.
    invalid: Option<Box<Invalid>>,
}

impl Object for Reading {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if self.invalid.is_some() {
            return value.skip();
        }
        let Some(number) = self.shape.find(key) else { return self.request.member(key, value) };
        let mark = value.mark();
        match self.walk.member(value, self.shape, number, &mut self.seen) {
            Ok(false) => self.request.member(key, value),
            Ok(true) if key == b"tools" => {
                self.request.note_tools(&self.walk.tool);
                Ok(())
            }
            Ok(true) if facts::reads(key) => {
                value.rewind(mark);
                self.request.member(key, value)
            }
            Ok(true) => {
                if is_empty_array(value.since(mark)) {
                    self.emptied |= 1 << number;
                    self.seen.empty(number);
                }
                Ok(())
            }
            Err(Stop::NotJson(error)) => Err(error),
            Err(Stop::Invalid(invalid)) => {
                self.invalid = Some(invalid);
                value.rewind(mark);
                value.skip()
            }
        }
    }
}

impl Reading {
    /// What is lacking of the object, now that all of it is known.
    fn lacking(&mut self, check: Check) -> Option<Box<Invalid>> {
        if check.model_elsewhere
            && let Some(model) = self.shape.find(b"model")
        {
            self.seen.assume(model);
        }
        if let Err(Stop::Invalid(invalid)) = self.seen.check(self.shape) {
            return Some(invalid);
        }
        let missing = check.schema.unless.iter().find_map(|unless| self.is_missing(unless));
        if check.level == Level::Basic {
            return missing;
        }
        missing.or_else(|| check.schema.only_with.iter().find_map(|rule| self.is_alone(rule)))
    }

    fn is_missing(&self, Unless { member, others }: &Unless) -> Option<Box<Invalid>> {
        if self.is_filled(member) || others.iter().any(|other| self.is_filled(other)) {
            return None;
        }
        let is_there =
            self.shape.find(member.as_bytes()).is_some_and(|number| self.emptied >> number & 1 == 1);
        let problem = if is_there { Problem::EmptyArray } else { Problem::Missing };
        Some(Invalid::new(problem).within(Segment::Member(member)))
    }

    fn is_alone(&self, OnlyWith { member, other }: &OnlyWith) -> Option<Box<Invalid>> {
        if !self.is_filled(member) || self.is_filled(other) {
            return None;
        }
        Some(Invalid::new(Problem::Needs { other }).within(Segment::Member(member)))
    }

    fn is_filled(&self, member: &str) -> bool {
        self.shape.find(member.as_bytes()).is_some_and(|number| self.seen.filled >> number & 1 == 1)
    }
}

fn is_empty_array(written: &[u8]) -> bool {
    let inner = written.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    inner.is_some_and(|inner| inner.trim_ascii_start().is_empty())
}
