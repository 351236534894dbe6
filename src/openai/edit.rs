//! Edits of a request body: a few pieces are replaced, every other byte stays as it is.

use std::ops::Range;

use thiserror::Error;

use super::usage::UsagePoint;

/// Where a request body can be edited, noted while its [`Facts`](super::Facts) are read. The offsets are in bytes and hold for that
/// body alone.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum EditPoints {
    /// The body is neither a JSON object nor a form: it has no members to edit.
    #[default]
    NotAnObject,
    /// The body is a multipart form.
    Form(Box<FormPoints>),
    /// The body is a JSON object.
    Object {
        /// The value of `model`, if there is one, `null` included.
        model: Option<Range<usize>>,
        /// Behind the opening brace, where a member can be inserted.
        after_brace: usize,
        /// The object has no members.
        is_empty: bool,
        /// Where the usage of a stream can be asked for.
        usage: UsagePoint,
    },
}

impl EditPoints {
    /// Whether the body can be made to ask for the usage of its stream, and does not do so yet.
    pub fn takes_usage(&self) -> bool {
        matches!(self, Self::Object { usage, .. } if *usage != UsagePoint::None)
    }
}

/// Where a multipart form can be edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormPoints {
    /// The content of the field `model`, if there is one; or the model of the JSON text in the field `session`.
    pub model: Option<Range<usize>>,
    /// Whether it is a JSON text.
    pub is_json: bool,
    /// Where the first delimiter begins, before which a part can be inserted.
    pub first: usize,
    /// Two hyphens and the boundary.
    pub delimiter: String,
}

/// Pieces of a body and what replaces them: sorted, and none overlaps another. There are as many as the gateway has kinds of edits.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Splices(Vec<Splice>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Splice {
    range: Range<usize>,
    replacement: Vec<u8>,
}

/// A piece of a body after the edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditedPiece<'s> {
    /// These bytes of the body.
    Kept(Range<usize>),
    /// Other bytes.
    New(&'s [u8]),
}

/// Why a body cannot be edited.
#[derive(Debug, Error)]
pub enum EditError {
    /// The body has no members.
    #[error(
        "the request body is neither a JSON object nor a form in good order, so its `{member}` cannot be set"
    )]
    NotAnObject {
        /// The member that was to be set.
        member: &'static str,
    },
    /// The member must stay as it is.
    #[error("the `{member}` of the request body cannot be set")]
    NotToBeSet {
        /// The member that was to be set.
        member: &'static str,
    },
    /// Two edits are for the same bytes.
    #[error("two edits of the request body overlap")]
    Overlap,
    /// The edits are for another body.
    #[error("an edit is outside of the request body")]
    OutOfBounds,
    /// The new value cannot be the content of a form's field.
    #[error("the new value of `{field}` has a line end in it")]
    NotAField {
        /// The field that was to be set.
        field: &'static str,
    },
    /// The new value cannot be written as JSON.
    #[error("the new value of `{member}` cannot be written as JSON")]
    NotJson {
        /// The member that was to be set.
        member: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl Splices {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `model`, which becomes the first member if the body has none.
    ///
    /// # Errors
    /// The body is not an object, or `model` is being edited already.
    pub fn set_model(&mut self, points: &EditPoints, name: &str) -> Result<(), EditError> {
        const MODEL: &str = "model";
        let (model, after_brace, is_empty) = match points {
            EditPoints::NotAnObject => return Err(EditError::NotAnObject { member: MODEL }),
            EditPoints::Form(points) => return self.set_model_of_form(points, name),
            EditPoints::Object { model, after_brace, is_empty, .. } => (model, after_brace, is_empty),
        };
        let value =
            serde_json::to_vec(name).map_err(|source| EditError::NotJson { member: MODEL, source })?;
        if let Some(range) = model {
            return self.replace(range.clone(), value);
        }
        // What is inserted into an empty object needs a comma only behind another insertion.
        let is_only = *is_empty && !self.inserts_at(*after_brace);
        let mut member = Vec::with_capacity(value.len() + 10);
        if *is_empty && !is_only {
            member.push(b',');
        }
        member.extend_from_slice(b"\"model\":");
        member.extend_from_slice(&value);
        if !*is_empty {
            member.push(b',');
        }
        self.replace(*after_brace..*after_brace, member)
    }

    /// Sets the field `model` of a form, which becomes the first part if the form has none.
    fn set_model_of_form(&mut self, points: &FormPoints, name: &str) -> Result<(), EditError> {
        let FormPoints { model, is_json, first, delimiter } = points;
        if *is_json {
            let value = serde_json::to_vec(name);
            let value = value.map_err(|source| EditError::NotJson { member: "model", source })?;
            let range = model.clone().ok_or(EditError::NotAnObject { member: "session.model" })?;
            return self.replace(range, value);
        }
        if name.contains(['\r', '\n']) {
            return Err(EditError::NotAField { field: "model" });
        }
        if let Some(range) = model {
            return self.replace(range.clone(), name);
        }
        let head = "Content-Disposition: form-data; name=\"model\"";
        self.replace(*first..*first, format!("{delimiter}\r\n{head}\r\n\r\n{name}\r\n"))
    }

    /// Asks for the usage of a stream (`stream_options.include_usage`). Every other member of the `stream_options` stays.
    ///
    /// # Errors
    /// The body is not an object, asks for it already, or must not ask for it ([`UsagePoint::None`]).
    pub fn ask_for_usage(&mut self, points: &EditPoints) -> Result<(), EditError> {
        const MEMBER: &str = "stream_options";
        let EditPoints::Object { after_brace, is_empty, usage, .. } = points else {
            return Err(EditError::NotAnObject { member: MEMBER });
        };
        match usage {
            UsagePoint::None => Err(EditError::NotToBeSet { member: MEMBER }),
            UsagePoint::NoOptions => {
                let comma = if *is_empty { "" } else { "," };
                let member = format!("\"stream_options\":{{\"include_usage\":true}}{comma}");
                self.replace(*after_brace..*after_brace, member)
            }
            UsagePoint::NullOptions(value) => self.replace(value.clone(), "{\"include_usage\":true}"),
            UsagePoint::InOptions { after_brace, is_empty } => {
                let comma = if *is_empty { "" } else { "," };
                self.replace(*after_brace..*after_brace, format!("\"include_usage\":true{comma}"))
            }
            UsagePoint::Off(value) => self.replace(value.clone(), "true"),
        }
    }

    /// Replaces the bytes of `range`. Several insertions at one place come in the order in which they were added.
    ///
    /// # Errors
    /// The range ends before it begins, or overlaps another one.
    pub fn replace(&mut self, range: Range<usize>, replacement: impl Into<Vec<u8>>) -> Result<(), EditError> {
        if range.start > range.end {
            return Err(EditError::OutOfBounds);
        }
        let at = self.0.partition_point(|earlier| earlier.range.end <= range.start);
        if self.0.get(at).is_some_and(|later| later.range.start < range.end) {
            return Err(EditError::Overlap);
        }
        self.0.insert(at, Splice { range, replacement: replacement.into() });
        Ok(())
    }

    /// Whether there is nothing to edit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length in bytes that a body of `length` bytes has after the edits.
    pub fn edited_length(&self, length: usize) -> usize {
        let removed: usize = self.0.iter().map(|splice| splice.range.len()).sum();
        let added: usize = self.0.iter().map(|splice| splice.replacement.len()).sum();
        length.saturating_sub(removed) + added
    }

    /// The body after the edits, in a buffer of exactly its length.
    ///
    /// # Errors
    /// A range is outside of the body.
    pub fn apply(&self, body: &[u8]) -> Result<Vec<u8>, EditError> {
        let mut edited = Vec::with_capacity(self.edited_length(body.len()));
        self.write(body, |piece| edited.extend_from_slice(piece))?;
        Ok(edited)
    }

    /// Gives the body after the edits to `sink`, piece by piece.
    ///
    /// # Errors
    /// A range is outside of the body.
    pub fn write(&self, body: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), EditError> {
        self.pieces(body.len(), |piece| match piece {
            EditedPiece::Kept(range) => sink(body.get(range).unwrap_or_default()),
            EditedPiece::New(bytes) => sink(bytes),
        })
    }

    /// Gives the pieces of a body of `length` bytes after the edits to `sink`, one after the other.
    ///
    /// # Errors
    /// A range is outside of the body.
    pub fn pieces(&self, length: usize, mut sink: impl FnMut(EditedPiece<'_>)) -> Result<(), EditError> {
        let mut copied = 0;
        for Splice { range, replacement } in &self.0 {
            if range.start < copied || range.end > length {
                return Err(EditError::OutOfBounds);
            }
            sink(EditedPiece::Kept(copied..range.start));
            sink(EditedPiece::New(replacement));
            copied = range.end;
        }
        sink(EditedPiece::Kept(copied..length));
        Ok(())
    }

    fn inserts_at(&self, offset: usize) -> bool {
        self.0.iter().any(|splice| splice.range == (offset..offset))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Facts, *};

    fn with_model(body: &[u8], model: &str) -> Result<Vec<u8>, EditError> {
        let mut splices = Splices::new();
        splices.set_model(&Facts::read(body).unwrap().edit_points, model)?;
        let edited = splices.apply(body)?;
        assert_eq!((edited.len(), edited.capacity()), (splices.edited_length(body.len()), edited.len()));
        Ok(edited)
    }

    #[test]
    fn nothing_else_changes() {
        let body = br#" { "a" : {"model":"no"}, "model"  :  "gpt-4o" , "x":[1.0e2,"\u00e9"]} "#;
        let edited = with_model(body, "other\"model").unwrap();
        let expected = br#" { "a" : {"model":"no"}, "model"  :  "other\"model" , "x":[1.0e2,"\u00e9"]} "#;
        assert_eq!(edited, expected);
        assert_eq!(with_model(br#" {"a":1}"#, "m").unwrap(), br#" {"model":"m","a":1}"#);
        assert_eq!(with_model(br#"{"model":null}"#, "m").unwrap(), br#"{"model":"m"}"#);
        assert_eq!(with_model(br#"{"mod\u0065l": "x"}"#, "m").unwrap(), br#"{"mod\u0065l": "m"}"#);
        assert_eq!(with_model(b"{ }", "m").unwrap(), br#"{"model":"m" }"#);
    }

    #[test]
    fn deep_nesting_and_bytes_that_are_not_text_are_no_obstacle() {
        let nested = [&b"[".repeat(1_000)[..], &b"]".repeat(1_000)].concat();
        let body = [b"{\"x\":\"\xFF\",\"y\":", &nested[..], b",\"model\":\"a\"}"].concat();
        assert!(with_model(&body, "b").unwrap().ends_with(br#","model":"b"}"#));
    }

    #[test]
    fn a_body_without_members_is_an_error() {
        let set = Splices::new().set_model(&EditPoints::NotAnObject, "m");
        assert!(matches!(set, Err(EditError::NotAnObject { member: "model" })));
    }

    #[test]
    fn edits_are_applied_in_the_order_of_their_places() {
        let mut splices = Splices::new();
        assert!(splices.is_empty());
        splices.replace(6..8, "G").unwrap();
        splices.replace(0..0, "<").unwrap();
        splices.replace(2..4, "").unwrap();
        splices.replace(0..0, "!").unwrap();
        splices.replace(8..8, "h").unwrap();
        assert_eq!(splices.apply(b"abcdefgh").unwrap(), b"<!abefGh");
    }

    #[test]
    fn edits_of_the_same_bytes_or_of_another_body_are_errors() {
        let mut splices = Splices::new();
        splices.replace(2..5, "x").unwrap();
        for range in [2..5, 1..3, 4..6, 3..3, 3..4, 0..9] {
            assert!(matches!(splices.replace(range, ""), Err(EditError::Overlap)));
        }
        assert!(matches!(splices.replace(Range { start: 9, end: 8 }, ""), Err(EditError::OutOfBounds)));
        assert!(matches!(splices.apply(b"abcd"), Err(EditError::OutOfBounds)));
        assert!(matches!(splices.apply(b"a"), Err(EditError::OutOfBounds)));
        assert_eq!(splices.apply(b"abcde").unwrap(), b"abx");
    }

    fn asking(body: &str) -> Option<String> {
        let points = Facts::read(body.as_bytes()).unwrap().edit_points;
        let mut splices = Splices::new();
        let asked = splices.ask_for_usage(&points);
        assert_eq!(asked.is_ok(), points.takes_usage(), "{body}");
        asked.ok()?;
        Some(String::from_utf8(splices.apply(body.as_bytes()).unwrap()).unwrap())
    }

    #[test]
    fn usage_is_asked_for_in_one_member_and_every_other_one_stays() {
        for (body, edited) in [
            (r#" {"stream":true}"#, r#" {"stream_options":{"include_usage":true},"stream":true}"#),
            (r#"{"stream_options" : null }"#, r#"{"stream_options" : {"include_usage":true} }"#),
            (r#"{"stream_options":{ } ,"a":1}"#, r#"{"stream_options":{"include_usage":true } ,"a":1}"#),
            (
                r#"{"stream_options":{ "include_obfuscation": false }}"#,
                r#"{"stream_options":{"include_usage":true, "include_obfuscation": false }}"#,
            ),
            (r#"{"stream_options":{"include_usage":null}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream_options":{"x":[1.0e2],"include\u005fusage": false,"y":{}}}"#,
                r#"{"stream_options":{"x":[1.0e2],"include\u005fusage": true,"y":{}}}"#,
            ),
            (
                r#"{"data_sources":null,"x":{"stream_options":1,"data_sources":[]}}"#,
                r#"{"stream_options":{"include_usage":true},"data_sources":null,"x":{"stream_options":1,"data_sources":[]}}"#,
            ),
        ] {
            assert_eq!(asking(body).as_deref(), Some(edited), "{body}");
            assert!(Facts::read(edited.as_bytes()).unwrap().include_usage, "{edited}");
            assert_eq!(asking(edited), None, "{edited}");
        }
    }

    #[test]
    fn usage_is_not_asked_for_where_it_would_mean_something_else() {
        for body in [
            // Asked already.
            r#"{"stream_options":{"include_usage":true}}"#,
            // The upstream refuses it: that is the client's own error.
            r#"{"stream_options":[]}"#,
            r#"{"stream_options":"x"}"#,
            r#"{"stream_options":{"include_usage":"yes"}}"#,
            // Readers differ in which of two they take.
            r#"{"stream_options":{},"stream_options":null}"#,
            r#"{"stream_options":{"include_usage":null,"include_usage":false}}"#,
            // Azure OpenAI on your data.
            r#"{"data_sources":[{"type":"azure_search"}],"stream_options":{}}"#,
            r#"{"dataSources":[]}"#,
            // Every chunk would have a usage.
            r#"{"stream_options":{"continuous_usage_stats":true}}"#,
            "[]",
        ] {
            assert_eq!(asking(body), None, "{body}");
        }
    }

    #[test]
    fn usage_and_a_model_are_set_in_one_body() {
        let body = br#"{"stream":true,"messages":[]}"#;
        let points = Facts::read(body).unwrap().edit_points;
        for model_first in [true, false] {
            let mut splices = Splices::new();
            if model_first {
                splices.set_model(&points, "m").unwrap();
            }
            splices.ask_for_usage(&points).unwrap();
            if !model_first {
                splices.set_model(&points, "m").unwrap();
            }
            let facts = Facts::read(&splices.apply(body).unwrap()).unwrap();
            assert_eq!((facts.model.as_deref(), facts.include_usage, facts.stream), (Some("m"), true, true));
        }
    }

    #[test]
    fn a_member_behind_another_insertion_into_an_empty_object_has_a_comma() {
        let points = Facts::read(b"{}").unwrap().edit_points;
        let mut splices = Splices::new();
        splices.replace(1..1, r#""a":1"#).unwrap();
        splices.set_model(&points, "m").unwrap();
        assert_eq!(splices.apply(b"{}").unwrap(), br#"{"a":1,"model":"m"}"#);
    }
}
