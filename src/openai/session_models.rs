//! The models of a Realtime session: the one that answers, and the one that transcribes.
//!
//! Source: OpenAI API reference, Realtime "Client secrets", "Calls" and "Sessions" (legacy): `session.model`, `session.audio.input.transcription.model`,
//! `input_audio_transcription.model`.

use std::ops::Range;

use super::{
    edit::EditPoints,
    facts::{Facts, FactsError, MODEL_LIMIT, Type},
    json::{self, Leaf, NotJson, Object, Shape, Value},
};

/// The most models that are read of one session. A session that names more is refused.
const MOST: usize = 8;

/// The models that a session names, in their order.
#[derive(Debug, Default)]
pub(super) struct SessionModels {
    /// The JSON text of the model that answers, quotes included, as offsets; if there is none, of the first other one.
    pub(super) range: Option<Range<usize>>,
    /// The model at `range`.
    pub(super) model: Option<String>,
    /// The other models.
    pub(super) others: Vec<String>,
}

impl Facts {
    /// Puts the models of the session in `body` in the place of the member `model`: for operations that make a session.
    ///
    /// # Errors
    /// A model is not a string, is there twice, or is too long.
    pub fn take_session(&mut self, body: &[u8]) -> Result<(), FactsError> {
        let SessionModels { range, model, others } = SessionModels::read(body)?;
        if let EditPoints::Object { model, .. } = &mut self.edit_points {
            *model = range;
        }
        (self.model, self.more_models) = (model, others);
        Ok(())
    }
}

impl SessionModels {
    /// The models of a session, or of an object that has one as its member `session`. What is no JSON object names none.
    ///
    /// # Errors
    /// A model is not a string, is there twice, or is too long.
    pub(super) fn read(text: &[u8]) -> Result<Self, FactsError> {
        let mut session = Session::default();
        match json::read(text, &mut session) {
            Ok(Shape::Object) => session.models(),
            Ok(Shape::Null | Shape::Other) | Err(NotJson { .. }) => Ok(Self::default()),
        }
    }
}

/// Where a session, or a part of one, is read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// A session, or what has one in it.
    #[default]
    Outside,
    Session,
    Audio,
    Input,
    Transcription,
}

#[derive(Default)]
struct Session {
    place: Level,
    answering: Option<(Range<usize>, String)>,
    transcribing: Vec<(Range<usize>, String)>,
    problem: Option<FactsError>,
}

impl Session {
    fn models(self) -> Result<SessionModels, FactsError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let mut all = self.answering.into_iter().chain(self.transcribing);
        let (range, model) = all.next().unzip();
        Ok(SessionModels { range, model, others: all.map(|(_, name)| name).collect() })
    }

    fn read_model(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        let begin = value.begins_at();
        let leaf = value.leaf()?;
        let at = begin..value.ends_at();
        let is_answering = self.place != Level::Transcription;
        let problem = match leaf {
            Leaf::Null => return Ok(()),
            Leaf::Text(name) if name.len() > MODEL_LIMIT => FactsError::ModelTooLong,
            Leaf::Text(_) if is_answering && self.answering.is_some() => {
                FactsError::Duplicate { field: "session.model" }
            }
            Leaf::Text(_) if self.transcribing.len() == MOST => {
                FactsError::Duplicate { field: "session.audio.input.transcription.model" }
            }
            Leaf::Text(name) => {
                let named = (at, name.into_owned());
                match is_answering {
                    true => self.answering = Some(named),
                    false => self.transcribing.push(named),
                }
                return Ok(());
            }
            _ => FactsError::WrongType { field: "session.model", expected: Type::String },
        };
        self.problem.get_or_insert(problem);
        Ok(())
    }

    fn inside(&mut self, place: Level, value: &mut Value<'_>) -> Result<(), NotJson> {
        let outer = std::mem::replace(&mut self.place, place);
        value.object(self)?;
        self.place = outer;
        Ok(())
    }
}

impl Object for Session {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        // Some upstreams do not look at case (Go's encoding/json).
        let is = |name: &[u8]| key.eq_ignore_ascii_case(name);
        match self.place {
            Level::Outside | Level::Session | Level::Transcription if is(b"model") => self.read_model(value),
            Level::Outside if is(b"session") => self.inside(Level::Session, value),
            Level::Outside | Level::Session if is(b"audio") => self.inside(Level::Audio, value),
            Level::Outside | Level::Session if is(b"input_audio_transcription") => {
                self.inside(Level::Transcription, value)
            }
            Level::Audio if is(b"input") => self.inside(Level::Input, value),
            Level::Input if is(b"transcription") => self.inside(Level::Transcription, value),
            _ => value.skip(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(Option<String>, Vec<String>), String> {
        let models = SessionModels::read(body.as_bytes()).map_err(|error| error.to_string())?;
        if let (Some(range), Some(model)) = (models.range, &models.model) {
            assert_eq!(body[range], format!("{model:?}"));
        }
        Ok((models.model, models.others))
    }

    #[test]
    fn the_models_of_a_session_are_found_wherever_they_stand() {
        let found = |model: &str, others: &[&str]| {
            Ok((Some(model.to_owned()), others.iter().map(|&other| other.to_owned()).collect()))
        };
        let transcription = r#""audio":{"input":{"transcription":{"model":"t"}},"output":{"model":"no"}}"#;
        assert_eq!(
            read(r#"{"session":{"type":"realtime","model":"m"},"expires_after":{"model":"no"}}"#),
            found("m", &[])
        );
        assert_eq!(read(&format!(r#"{{"session":{{{transcription},"model":"m"}}}}"#)), found("m", &["t"]));
        assert_eq!(
            read(&format!(r#"{{"session":{{"type":"transcription",{transcription}}}}}"#)),
            found("t", &[])
        );
        assert_eq!(read(r#"{"model":"m","input_audio_transcription":{"model":"t"}}"#), found("m", &["t"]));
        assert_eq!(read(r#"{"model":null,"Session":{"MODEL":"m"}}"#), found("m", &[]));
        for none in ["{}", "[]", "no json", r#"{"session":null}"#, r#"{"session":[{"model":"m"}]}"#] {
            assert_eq!(read(none), Ok((None, Vec::new())), "{none}");
        }
    }

    #[test]
    fn a_session_with_two_models_or_with_none_that_is_a_name_is_refused() {
        assert!(read(r#"{"model":"a","session":{"model":"b"}}"#).unwrap_err().contains("more than once"));
        assert!(read(r#"{"session":{"model":7}}"#).unwrap_err().contains("not a string"));
        assert!(read(&format!(r#"{{"model":"{}"}}"#, "m".repeat(513))).unwrap_err().contains("longer"));
    }

    #[test]
    fn another_model_takes_its_place() {
        let body = br#"{"x":1,"session":{"model" : "m","type":"realtime"}}"#;
        let mut facts = Facts::read(body).unwrap();
        facts.take_session(body).unwrap();
        let mut splices = crate::openai::Splices::new();
        splices.set_model(&facts.edit_points, "o\"ther").unwrap();
        let edited = splices.apply(body).unwrap();
        assert_eq!(edited, br#"{"x":1,"session":{"model" : "o\"ther","type":"realtime"}}"#);
    }
}
