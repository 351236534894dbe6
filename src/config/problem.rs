//! What is wrong with a configuration file, and where, told to a person.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is wrong (or, as a warning, worth knowing) in the file.
///
/// Never holds a value that was written in the file unless it is a short name: a secret may have been pasted anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file's terms: `route.openai.upstreams[0]`; empty for the file as a whole.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub message: Cow<'static, str>,
    /// How to put it right; may be empty.
    pub help: Cow<'static, str>,
}

impl Problem {
    /// A block of two or three lines, `severity` being its first word ("error", "warning").
    pub fn describe<'a>(&'a self, severity: &'a str, file: &'a Path) -> impl fmt::Display + 'a {
        Description { problem: self, severity, file }
    }
}

/// Every problem of a file that was refused, in the file's order. Its `Display` shows them all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file, as it was named.
    pub file: PathBuf,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}\n", problem.describe("error", &self.file))?;
        }
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        write!(f, "{}: {} problem{plural}", self.file.display(), self.problems.len())
    }
}

struct Description<'a> {
    problem: &'a Problem,
    severity: &'a str,
    file: &'a Path,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { path, line, column, message, help } = self.problem;
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "{}: {path}{colon}{message}", self.severity)?;
        write!(f, "\n  --> {}:{line}:{column}", self.file.display())?;
        if !help.is_empty() {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// What a value's own parser has to say about it: the value's place is added by whoever knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: Cow<'static, str>,
    pub(crate) help: Cow<'static, str>,
}

/// A complaint and its remedy.
pub(crate) fn complaint(
    message: impl Into<Cow<'static, str>>,
    help: impl Into<Cow<'static, str>>,
) -> Complaint {
    Complaint { message: message.into(), help: help.into() }
}
