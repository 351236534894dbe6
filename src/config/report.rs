//! Collects every problem of one reading of the file, so that the first problem does not hide the others.

use std::cell::{OnceCell, RefCell};

use super::problem::{Complaint, Problem};

/// The problems and warnings found so far, and the text of the file, from which line and column are counted.
#[derive(Debug)]
pub(crate) struct Report<'t> {
    text: &'t str,
    /// Where lines end, once a line has been asked for.
    line_ends: OnceCell<Vec<usize>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, line_ends: OnceCell::new(), problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// Adds a problem, after which the file is not used; `offset` in bytes.
    pub(crate) fn problem(&self, path: &str, offset: usize, complaint: Complaint) {
        self.problems.borrow_mut().push(self.place(path, offset, complaint));
    }

    /// Adds a warning; `offset` in bytes.
    pub(crate) fn warning(&self, path: &str, offset: usize, complaint: Complaint) {
        self.warnings.borrow_mut().push(self.place(path, offset, complaint));
    }

    /// The warnings, or the problems if there are any, in the order of the file.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, Vec<Problem>> {
        let problems = in_order(self.problems.into_inner());
        if problems.is_empty() { Ok(in_order(self.warnings.into_inner())) } else { Err(problems) }
    }

    /// The line, from 1, of a position in the file.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let ends = self.line_ends.get_or_init(|| self.text.match_indices('\n').map(|(at, _)| at).collect());
        ends.partition_point(|end| *end < offset) + 1
    }

    /// A complaint with its line and column.
    pub(crate) fn place(&self, path: &str, offset: usize, complaint: Complaint) -> Problem {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Problem {
            path: path.to_owned(),
            line: self.line(offset),
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: complaint.message,
            help: complaint.help,
        }
    }
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}
