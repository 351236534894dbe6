//! Writes lines for people: one for each request or message, and below it what went wrong.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::entry::Entry;
use anstyle::{AnsiColor, Style};

const BAD: Style = AnsiColor::Red.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Fields of messages that are not shown as such.
const KNOWN: [&str; 5] = ["time", "kind", "level", "message", "target"];

/// Writes lines for people.
#[derive(Debug)]
pub(super) struct Writer {
    colours: bool,
    /// The day of the last line.
    day: String,
}

impl Writer {
    pub(super) fn new(colours: bool) -> Self {
        Self { colours, day: String::new() }
    }

    /// Writes one line.
    pub(super) fn write(&mut self, entry: &Entry<'_>, out: &mut impl Write) -> io::Result<()> {
        let mut text = String::new();
        self.begin(entry, &mut text);
        match entry.text("kind") {
            Some("access") => self.access(entry, &mut text),
            Some("message") => self.message(entry, &mut text),
            Some("state") => self.state(entry, &mut text),
            _ => text.push_str(&safe(entry.original())),
        }
        text.push('\n');
        out.write_all(text.as_bytes())
    }

    /// The day, if it is another one, and the time.
    fn begin(&mut self, entry: &Entry<'_>, text: &mut String) {
        let Some((day, time)) = entry.text("time").and_then(|time| time.split_once('T')) else { return };
        if self.day != day {
            self.day = day.to_owned();
            let line = format!("── {} (UTC) ──", safe(day));
            self.push(text, DIM, &line);
            text.push('\n');
        }
        self.push(text, DIM, &safe(time.trim_end_matches('Z')));
        text.push_str("  ");
    }

    fn access(&self, entry: &Entry<'_>, text: &mut String) {
        let status = entry.number("status");
        let shown = status.map_or_else(|| "–".to_owned(), |status| format!("{status:.0}"));
        let style = match status {
            Some(status) if status < 400.0 && entry.text("error").is_none() => GOOD,
            Some(status) if status < 500.0 && entry.text("who") != Some("upstream") => WARNING,
            _ => BAD,
        };
        self.push(text, style, &format!("{shown:<3}"));
        let field = |name: &str| safe(entry.text(name).unwrap_or("–"));
        let _infallible =
            write!(text, "  {:<14} {:<22} {:<12}", field("caller"), field("model"), field("upstream"));
        let _infallible = write!(text, " {:>8}", span(entry.number("total_ms").unwrap_or_default()));
        if let Some(first) = entry.number("first_token_ms") {
            let _infallible = write!(text, "  first {}", span(first));
        }
        match (entry.number("tokens_in"), entry.number("tokens_out")) {
            (None, None) => {}
            (tokens_in, tokens_out) => {
                let count =
                    |count: Option<f64>| count.map_or("–".to_owned(), |count| format!("{count:.0}"));
                let _infallible = write!(text, "  {}→{} tok", count(tokens_in), count(tokens_out));
            }
        }
        let _infallible = write!(text, "  {} {}  ", field("method"), field("path"));
        self.push(text, DIM, &field("request_id"));
        self.attempts(entry, text);
        if let Some(error) = entry.text("error") {
            let ended = format!("{} ended it in phase {}", field("who"), field("phase"));
            let cause = entry.text("cause").map(|cause| format!(" ({})", safe(cause))).unwrap_or_default();
            text.push_str("\n              ");
            self.push(text, BAD, &safe(error));
            let _infallible = write!(text, ": {ended}{cause}");
        }
    }

    fn attempts(&self, entry: &Entry<'_>, text: &mut String) {
        for (index, attempt) in entry.list("attempts").iter().enumerate() {
            let field = |name: &str| attempt[name].as_str().map(safe);
            let parts = [
                Some(format!("try {}", index + 1)),
                field("upstream"),
                field("target"),
                attempt["key"].as_u64().map(|key| format!("key {key}")),
                field("result"),
                field("code"),
                attempt["ms"].as_f64().map(span),
            ];
            text.push_str("\n              ");
            let line: Vec<String> = parts.into_iter().flatten().collect();
            self.push(text, DIM, &line.join("  "));
        }
    }

    fn message(&self, entry: &Entry<'_>, text: &mut String) {
        let level = entry.text("level").unwrap_or_default();
        let style = match level {
            "error" => BAD,
            "warn" => WARNING,
            _ => DIM,
        };
        self.push(text, style, &format!("{:<5}", safe(&level.to_uppercase())));
        text.push(' ');
        self.push(text, BOLD, &safe(entry.text("message").unwrap_or_default()));
        for (name, value) in entry.fields().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str("  ");
            self.push(text, DIM, &format!("{}={}", safe(name), safe(&value)));
        }
    }

    fn state(&self, entry: &Entry<'_>, text: &mut String) {
        let count = |name: &str| entry.number(name).unwrap_or_default();
        let line = format!(
            "state  {} in flight  {} connections  {} finished  {} failed  {} tok/s",
            count("in_flight"),
            count("connections"),
            count("finished"),
            count("failed"),
            count("tokens_out_per_s"),
        );
        self.push(text, if count("failed") > 0.0 { WARNING } else { DIM }, &line);
    }

    fn push(&self, text: &mut String, style: Style, what: &str) {
        let _infallible =
            if self.colours { write!(text, "{style}{what}{style:#}") } else { write!(text, "{what}") };
    }
}

/// A text without characters that a terminal would act upon: a client chooses models and paths.
pub(in crate::cli) fn safe(text: &str) -> String {
    let is_control = |letter: char| letter.is_control() || is_reordering(letter);
    if !text.chars().any(is_control) {
        return text.to_owned();
    }
    text.chars().map(|letter| if is_control(letter) { '\u{fffd}' } else { letter }).collect()
}

/// JSON without characters that a terminal would act upon: they are escaped, so that it is the same JSON.
pub(in crate::cli) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        let is_space = matches!(letter, '\n' | '\r' | '\t');
        if !is_space && (letter.is_control() || is_reordering(letter)) {
            let _infallible = write!(text, "\\u{:04x}", u32::from(letter));
        } else {
            text.push(letter);
        }
    }
    text
}

/// Characters that change the direction of what follows (Unicode Bidirectional Algorithm, UAX #9), or end a line.
fn is_reordering(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Milliseconds as people say them.
pub(in crate::cli) fn span(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 10_000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms < 120_000.0 => format!("{:.0} s", ms / 1000.0),
        ms if ms < 7_200_000.0 => format!("{:.0} min", ms / 60_000.0),
        ms => format!("{:.1} h", ms / 3_600_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[&str], colours: bool) -> String {
        let (mut writer, mut out) = (Writer::new(colours), Vec::new());
        lines.iter().for_each(|line| writer.write(&Entry::read(line), &mut out).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_one_line_and_a_failure_says_why_below() {
        let good = r#"{"time":"2026-11-28T12:37:09.322Z","kind":"access","request_id":"req_1","caller":"team-a","upstream":"openai","method":"POST","path":"/v1/chat/completions","model":"gpt-4o","status":200,"who":"upstream","phase":"done","first_token_ms":312.4,"total_ms":5650.1,"tokens_in":11,"tokens_out":14}"#;
        let bad = r#"{"time":"2026-11-28T12:37:10.000Z","kind":"access","request_id":"req_2","caller":"team-a","upstream":"azure","method":"POST","path":"/v1/chat/completions","model":"gpt-4o","status":200,"who":"upstream","phase":"stream","attempts":[{"upstream":"openai","target":"https://a","key":1,"status":503,"result":"5xx","ms":12.0},{"upstream":"azure","target":"https://b","ms":100.0}],"total_ms":900.0,"error":"upstream_truncated","cause":"connection reset"}"#;
        assert_eq!(
            written(&[good, bad], false),
            "── 2026-11-28 (UTC) ──
12:37:09.322  200  team-a         gpt-4o                 openai          5.7 s  first 312 ms  11→14 tok  POST /v1/chat/completions  req_1
12:37:10.000  200  team-a         gpt-4o                 azure          900 ms  POST /v1/chat/completions  req_2
              try 1  openai  https://a  key 1  5xx  12 ms
              try 2  azure  https://b  100 ms
              upstream_truncated: upstream ended it in phase stream (connection reset)
"
        );
        let painted = written(&[good], true);
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), written(&[good], false));
    }

    #[test]
    fn messages_states_and_other_lines() {
        let message = r#"{"time":"2026-11-28T12:37:09.322Z","kind":"message","level":"warn","target":"sluicegate","message":"circuit breaker opened","url":"https://a"}"#;
        let state = r#"{"time":"2026-11-28T12:37:10.322Z","kind":"state","in_flight":3,"connections":4,"finished":5,"failed":0,"tokens_out_per_s":60}"#;
        assert_eq!(
            written(&[message, state, "time=1 kind=access"], false),
            "── 2026-11-28 (UTC) ──
12:37:09.322  WARN  circuit breaker opened  url=https://a
12:37:10.322  state  3 in flight  4 connections  5 finished  0 failed  60 tok/s
time=1 kind=access
"
        );
    }

    #[test]
    fn nothing_that_a_client_sends_acts_upon_the_terminal() {
        let line = r#"{"time":"2026-11-28T12:37:09.322Z","kind":"access","model":"a\u001b[2Jb\u202ec","path":"/\u0007\n","status":200}"#;
        let text = written(&[line, "\u{1b}]0;title\u{7}"], false);
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}') && !text.contains('\u{202e}'),
            "{text:?}"
        );
        assert_eq!(text.lines().count(), 3);
        assert_eq!(safe("a\u{61c}b\u{2028}"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = serde_json::json!({ "model": "a\u{9b}2J\u{7f}\u{61c}\u{202e}ü\n" });
        let text = escaped(&format!("{value:#}\n"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.contains(r"a\u009b2J\u007f\u061c\u202eü"), "{text}");
    }
}
