//! The form of a provider's file.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Deserialize;
use sluicegate::simulator::{Cut, Script, Step};

/// What one provider sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name in docs/providers.md.
    pub provider: String,
    /// What the page says of it beside the table.
    #[serde(default)]
    pub about: String,
    #[serde(rename = "cell")]
    pub cells: Vec<Cell>,
    /// Kinds of which nothing can be shown, and why.
    #[serde(default)]
    pub absent: Vec<Absent>,
    /// The name of its file.
    #[serde(skip)]
    pub file: String,
}

/// A kind of response that this provider does not send, or of which no public capture was found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    pub kind: Kind,
    pub why: String,
}

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Unique in its file.
    pub name: String,
    pub kind: Kind,
    /// Where these bytes can be read.
    pub source: Option<String>,
    /// Why the bytes have no source; such a cell does not count.
    pub invented: Option<String>,
    /// What is not from the source in a cell that has one, or what is notable about it.
    #[serde(default)]
    pub note: String,
    pub ask: Ask,
    /// The status line and the headers, one a line.
    pub head: String,
    /// The beginning of the body, if it is that of another cell.
    #[serde(default)]
    pub after: Option<After>,
    /// The body, byte for byte; if there is an `after`, what follows it.
    #[serde(default)]
    pub body: String,
    /// The line ends within the body.
    #[serde(default)]
    pub eol: Eol,
    /// How the body ends.
    #[serde(default)]
    pub end: End,
    pub alone: Expected,
    pub spare: WithSpare,
    /// The settings in which today's program does something else.
    #[serde(default)]
    pub pending: BTreeSet<Setting>,
}

/// The first events of the body of another cell of the same provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub cell: String,
    pub events: usize,
}

/// The columns of the table.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Success,
    Stream,
    ErrorBefore,
    ErrorIn,
    RateLimit,
    NoCredit,
    BadKey,
    Moderation,
    Cut,
}

/// The request.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    Chat,
    ChatStream,
    Messages,
    MessagesStream,
    Responses,
    ResponsesStream,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Eol {
    #[default]
    Lf,
    Crlf,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// As its framing demands.
    #[default]
    Whole,
    /// The connection is closed before the end of the framing.
    Closed,
    /// The connection is reset.
    Reset,
}

/// What is behind the gateway.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The upstream, with two keys.
    Alone,
    /// The same, and a second upstream that always answers.
    Spare,
}

/// What comes of a cell.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub status: u16,
    pub body: Body,
    /// `error.code`, else `error.type`, of the gateway's own error.
    pub code: Option<String>,
    /// `x-should-retry`
    pub should_retry: Option<String>,
    /// `retry-after`
    pub retry_after: Option<String>,
    /// Requests that reached the upstream.
    #[serde(default = "one")]
    pub attempts: usize,
    /// Different keys in these requests, where the rules say something about it.
    pub keys: Option<usize>,
    /// Whether the client sees the response cut off.
    #[serde(default)]
    pub aborted: bool,
    #[serde(default)]
    pub log: Log,
}

/// The access line. A field that is not set must be absent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub error: Option<String>,
    /// The results of the attempts that failed.
    #[serde(default)]
    pub failed: Vec<String>,
    pub finish: Option<String>,
    #[serde(rename = "in")]
    pub tokens_in: Option<u64>,
    #[serde(rename = "out")]
    pub tokens_out: Option<u64>,
    /// Who ended the exchange, where it was not whole.
    pub who: Option<String>,
}

/// The body that the caller gets.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The upstream's, byte for byte.
    Upstream,
    /// The upstream's bytes, and then an error event of the gateway's own.
    UpstreamThenError,
    /// The second upstream's.
    Spare,
    /// An error of the gateway's own.
    Gateway,
    /// An error response with the error object of the upstream's event.
    Event,
}

/// What comes of a cell where there is a second upstream.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum WithSpare {
    /// The same as without (`"same"`).
    Same(Same),
    /// The second upstream's response, after the upstream was sent one request for each of these results.
    Answers(Vec<String>),
    Other(Box<Expected>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Same {
    Same,
}

fn one() -> usize {
    1
}

impl Provider {
    pub fn read(file: &str, text: &str) -> Self {
        let mut provider: Self = toml::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        file.clone_into(&mut provider.file);
        provider.complete_bodies();
        let mut names = BTreeSet::new();
        for cell in &provider.cells {
            assert!(names.insert(&cell.name), "{file}: two cells are named {}", cell.name);
            assert!(
                cell.source.is_some() != cell.invented.is_some(),
                "{file}: {} needs a source, or a reason why it has none",
                cell.name
            );
        }
        provider
    }
}

impl Provider {
    /// Puts the events of other cells before the bodies of those that begin with them.
    fn complete_bodies(&mut self) {
        for at in 0..self.cells.len() {
            let Some(After { cell, events }) = &self.cells[at].after else { continue };
            let other = self.cells.iter().find(|other| other.name == *cell).unwrap();
            assert!(other.after.is_none(), "{cell} begins with the events of another cell itself");
            let beginning: String = other.body.split_inclusive("\n\n").take(*events).collect();
            self.cells[at].body.insert_str(0, &beginning);
        }
    }
}

impl Cell {
    pub fn expected(&self, setting: Setting) -> Expected {
        match (&self.spare, setting) {
            (_, Setting::Alone) | (WithSpare::Same(_), _) => self.alone.clone(),
            (WithSpare::Other(expected), _) => (**expected).clone(),
            (WithSpare::Answers(failed), _) => Expected {
                status: 200,
                body: Body::Spare,
                code: None,
                should_retry: None,
                retry_after: None,
                attempts: failed.len(),
                keys: self.alone.keys.map(|keys| keys.min(failed.len())),
                aborted: false,
                log: Log { failed: failed.clone(), ..Ask::spares_log() },
            },
        }
    }

    /// The body as it is on the wire.
    pub fn bytes(&self) -> String {
        match self.eol {
            Eol::Lf => self.body.clone(),
            Eol::Crlf => self.body.replace('\n', "\r\n"),
        }
    }

    /// The first line of the head without the protocol.
    pub fn status_line(&self) -> &str {
        let line = self.head.lines().next().unwrap_or_default();
        line.split_once(' ').map_or(line, |(_, status)| status)
    }

    /// The upstream's response to one request.
    pub fn script(&self) -> Script {
        let streamed = self.head.to_ascii_lowercase().contains("text/event-stream");
        let mut steps = if streamed { self.chunks() } else { vec![self.document()] };
        match self.end {
            End::Whole if streamed => steps.push(Step::Raw(Bytes::from_static(b"0\r\n\r\n"))),
            End::Whole => {}
            End::Closed => steps.push(Step::Cut(Cut::Close)),
            End::Reset => steps.push(Step::Cut(Cut::Reset)),
        }
        Script::new(steps)
    }

    fn document(&self) -> Step {
        let body = self.bytes();
        // Of a document that is cut off, half arrives.
        let length = if self.end == End::Whole { body.len() } else { 2 * body.len() + 1 };
        Step::Raw(format!("{}content-length: {length}\r\n\r\n{body}", self.head_lines()).into())
    }

    /// Each event in a chunk and a write of its own.
    fn chunks(&self) -> Vec<Step> {
        let body = self.bytes();
        let blank = if self.eol == Eol::Lf { "\n\n" } else { "\r\n\r\n" };
        let head = format!("{}transfer-encoding: chunked\r\n\r\n", self.head_lines());
        let chunks = body.split_inclusive(blank).map(|event| format!("{:x}\r\n{event}\r\n", event.len()));
        std::iter::once(head).chain(chunks).map(|bytes| Step::Raw(bytes.into())).collect()
    }

    fn head_lines(&self) -> String {
        self.head.lines().map(|line| format!("{line}\r\n")).collect()
    }
}
