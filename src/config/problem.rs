//! Problems of a configuration file, as they are shown to people.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
};

/// One problem (or warning) in the file.
///
/// It never contains a value of the file, except for short names: a secret may have been pasted anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, for example `route.openai.upstreams[0]`; empty for the file as a whole.
    pub path: String,
    /// Line, counted from 1; 0 if the file as a whole could not be read.
    pub line: usize,
    /// Column in characters, counted from 1, or 0 as the line.
    pub column: usize,
    /// What is wrong.
    pub message: Cow<'static, str>,
    /// How to fix it; may be empty.
    pub help: Cow<'static, str>,
}

impl Problem {
    /// A block of two or three lines that begins with `severity` ("error", "warning").
    pub fn describe<'a>(&'a self, severity: &'a str, file: &'a Path) -> impl fmt::Display + 'a {
        Description { problem: self, severity, file }
    }
}

/// All problems of a file that was rejected, in the order of the file. Its `Display` shows them all.
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
        write!(f, "\n  --> {}", self.file.display())?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        if !help.is_empty() {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// What a parser says about a value, without the position in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: Cow<'static, str>,
    pub(crate) help: Cow<'static, str>,
}

/// A complaint, and how to fix it.
pub(crate) fn complaint(
    message: impl Into<Cow<'static, str>>,
    help: impl Into<Cow<'static, str>>,
) -> Complaint {
    Complaint { message: message.into(), help: help.into() }
}
