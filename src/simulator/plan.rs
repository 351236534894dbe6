//! The settings of a generated response, and the two grammars that set them: the model name and `x-simulate`.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use super::{api_error::ApiError, ending::Cut};

/// The most padding in one frame, bytes.
const MAX_SIZE: usize = 16 * 1024 * 1024;

/// What a generated response contains, and how it is sent.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Content frames, without the events before and after them (role, finish, usage).
    pub(super) frames: Option<u64>,
    /// Time between two batches of frames.
    pub(super) interval: Option<Duration>,
    /// Time before the head.
    pub(super) delay: Duration,
    /// Time between the head and the first event.
    pub(super) first: Duration,
    pub(super) status: Option<StatusCode>,
    /// The error of that name, in place of a response.
    pub(super) error: Option<ApiError>,
    pub(super) retry_after: Option<String>,
    pub(super) cut: Option<CutPoint>,
    pub(super) by: Cut,
    pub(super) stall: Option<u64>,
    pub(super) gate: Option<u64>,
    pub(super) early: bool,
    pub(super) done: bool,
    pub(super) newline: &'static str,
    pub(super) comments: bool,
    pub(super) trailers: bool,
    /// Input and output tokens.
    pub(super) usage: Option<(u64, u64)>,
    pub(super) size: usize,
    /// Whether chat frames contain the time at which they were written, in nanoseconds since 1970 (`made_ns`), so that a
    /// client can measure their delay.
    pub(super) timestamps: bool,
    /// Number of frames in one write.
    pub(super) batch: u64,
    /// The most bytes in one write; 0 = no limit.
    pub(super) split: usize,
    pub(super) length: BodyLength,
    pub(super) error_event: bool,
    pub(super) malformed: bool,
    /// How long a WebSocket connection may last.
    pub(super) expires: Option<Duration>,
}

/// Where a response is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutPoint {
    Head,
    Body(u64),
}

/// How the end of a generated body is marked; `Auto` = `content-length` for JSON, chunked for streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    Auto,
    Known,
    Chunked,
    Close,
}

/// A mistake in an `x-simulate` header.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScriptError {
    /// The key does not exist.
    #[error("x-simulate: unknown key `{0}`")]
    UnknownKey(String),
    /// The value is invalid for this key.
    #[error("x-simulate: invalid value `{value}` for key `{key}`")]
    BadValue {
        /// The key.
        key: String,
        /// The invalid value.
        value: String,
    },
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            frames: None,
            interval: None,
            delay: Duration::ZERO,
            first: Duration::ZERO,
            status: None,
            error: None,
            retry_after: None,
            cut: None,
            by: Cut::Reset,
            stall: None,
            gate: None,
            early: false,
            done: true,
            newline: "\n",
            comments: false,
            trailers: false,
            usage: None,
            size: 0,
            timestamps: false,
            batch: 1,
            split: 0,
            length: BodyLength::Auto,
            error_event: false,
            malformed: false,
            expires: None,
        }
    }
}

impl Plan {
    /// Reads a model name like `sim-f200-i10-b16-d50-s1000-t`: frames, milliseconds between batches, frames in a batch,
    /// milliseconds before the head, bytes of padding in each frame, timestamps. Any other name changes nothing.
    pub(super) fn read_model(&mut self, model: &str) {
        let Some(settings) = model.strip_prefix("sim-") else { return };
        for setting in settings.split('-') {
            let mut letters = setting.chars();
            let Some(letter) = letters.next() else { continue };
            let value = letters.as_str();
            let number = value.parse::<u64>().ok();
            match letter {
                'f' => self.frames = number.or(self.frames),
                'i' => self.interval = milliseconds(value).or(self.interval),
                'b' => self.batch = number.unwrap_or(self.batch).max(1),
                'd' => self.delay = milliseconds(value).unwrap_or(self.delay),
                't' => self.timestamps = true,
                's' => self.size = value.parse().unwrap_or(self.size).min(MAX_SIZE),
                _ => {}
            }
        }
    }

    /// Reads `key=value; key=value; flag`. Durations are milliseconds, or have a unit (`2s`).
    ///
    /// # Errors
    /// The first unknown key or value.
    pub(super) fn read_header(&mut self, text: &str) -> Result<(), ScriptError> {
        for setting in text.split(';').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let (key, value) = (key.trim(), value.trim());
            if !self.set_sending(key, value)? && !self.set_content(key, value)? {
                return Err(ScriptError::UnknownKey(key.to_owned()));
            }
        }
        Ok(())
    }

    /// Changes a setting of how the response is sent. Returns false if `key` is none of these.
    fn set_sending(&mut self, key: &str, value: &str) -> Result<bool, ScriptError> {
        let bad = || bad(key, value);
        match key {
            "interval" => self.interval = Some(span(value).ok_or_else(bad)?),
            "expires" => self.expires = Some(span(value).ok_or_else(bad)?),
            "delay" => self.delay = span(value).ok_or_else(bad)?,
            "first" => self.first = span(value).ok_or_else(bad)?,
            "cut" if value == "head" => self.cut = Some(CutPoint::Head),
            "cut" => self.cut = Some(CutPoint::Body(value.parse().map_err(|_| bad())?)),
            "by" => self.by = cut(value).ok_or_else(bad)?,
            "stall" => self.stall = Some(value.parse().map_err(|_| bad())?),
            "gate" => self.gate = Some(value.parse().map_err(|_| bad())?),
            "batch" => self.batch = value.parse::<u64>().map_err(|_| bad())?.max(1),
            "split" => self.split = value.parse().map_err(|_| bad())?,
            "length" => self.length = length(value).ok_or_else(bad)?,
            "early" => self.early = flag(value).ok_or_else(bad)?,
            "trailers" => self.trailers = flag(value).ok_or_else(bad)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Changes a setting of what the response contains. Returns false if `key` is none of these.
    fn set_content(&mut self, key: &str, value: &str) -> Result<bool, ScriptError> {
        let bad = || bad(key, value);
        match key {
            "frames" => self.frames = Some(value.parse().map_err(|_| bad())?),
            "status" => self.status = Some(status(value).ok_or_else(bad)?),
            "error" => self.error = Some(ApiError::named(value).ok_or_else(bad)?),
            "retry-after" => self.retry_after = Some(value.to_owned()),
            "no-done" => self.done = !flag(value).ok_or_else(bad)?,
            "newline" => self.newline = newline(value).ok_or_else(bad)?,
            "comments" => self.comments = flag(value).ok_or_else(bad)?,
            "usage" => self.usage = Some(pair(value).ok_or_else(bad)?),
            "size" => self.size = value.parse().ok().filter(|size| *size <= MAX_SIZE).ok_or_else(bad)?,
            "stamp" => self.timestamps = flag(value).ok_or_else(bad)?,
            "error-event" => self.error_event = flag(value).ok_or_else(bad)?,
            "malformed" => self.malformed = flag(value).ok_or_else(bad)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn bad(key: &str, value: &str) -> ScriptError {
    ScriptError::BadValue { key: key.to_owned(), value: value.to_owned() }
}

fn span(value: &str) -> Option<Duration> {
    milliseconds(value).or_else(|| crate::span::parse(value).ok())
}

fn milliseconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse::<f64>().ok()? / 1000.0).ok()
}

/// Only final status codes: after an interim one, a client would wait forever.
fn status(value: &str) -> Option<StatusCode> {
    value.parse().ok().filter(|status: &StatusCode| status.as_u16() >= 200)
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn cut(value: &str) -> Option<Cut> {
    match value {
        "reset" => Some(Cut::Reset),
        "close" => Some(Cut::Close),
        "chunk-error" => Some(Cut::ChunkError),
        "no-error" => Some(Cut::NoError),
        _ => None,
    }
}

fn length(value: &str) -> Option<BodyLength> {
    match value {
        "known" => Some(BodyLength::Known),
        "chunked" => Some(BodyLength::Chunked),
        "close" => Some(BodyLength::Close),
        _ => None,
    }
}

fn newline(value: &str) -> Option<&'static str> {
    match value {
        "lf" => Some("\n"),
        "crlf" => Some("\r\n"),
        "cr" => Some("\r"),
        _ => None,
    }
}

fn pair(value: &str) -> Option<(u64, u64)> {
    let (input, output) = value.split_once(',')?;
    Some((input.trim().parse().ok()?, output.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_name_sets_the_pace() {
        let mut plan = Plan::default();
        plan.read_model("sim-f200-i10-b16-d50-s1000-t");
        assert_eq!((plan.frames, plan.timestamps), (Some(200), true));
        assert_eq!(plan.interval, Some(Duration::from_millis(10)));
        assert_eq!((plan.batch, plan.delay, plan.size), (16, Duration::from_millis(50), 1000));
        let mut plan = Plan::default();
        plan.read_model("sim-i0.5-d-x3");
        assert_eq!((plan.interval, plan.delay), (Some(Duration::from_micros(500)), Duration::ZERO));
        let mut plan = Plan::default();
        plan.read_model("gpt-4o-f9");
        assert_eq!(plan.frames, None);
    }

    #[test]
    fn the_header_changes_any_setting_and_reports_its_mistakes() {
        let mut plan = Plan::default();
        plan.read_header("frames=3; cut=17; by = chunk-error;first=2s; no-done; newline=cr; usage=5,7;")
            .unwrap();
        assert_eq!((plan.frames, plan.cut, plan.by), (Some(3), Some(CutPoint::Body(17)), Cut::ChunkError));
        assert_eq!((plan.first, plan.done, plan.newline), (Duration::from_secs(2), false, "\r"));
        assert_eq!(plan.usage, Some((5, 7)));
        assert_eq!(plan.read_header("fames=3"), Err(ScriptError::UnknownKey("fames".into())));
        assert_eq!(plan.read_header("cut=x"), Err(bad("cut", "x")));
        assert_eq!(plan.read_header("status=100"), Err(bad("status", "100")));
        assert_eq!(plan.read_header("error=unheard-of"), Err(bad("error", "unheard-of")));
    }
}
