//! Colours, on a terminal only. `NO_COLOR` (no-color.org), `CLICOLOR_FORCE` and `TERM=dumb` are honoured.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const HEADER: Style = Style::new().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Of help texts and usage errors.
pub(super) const HELP: Styles = Styles::styled()
    .header(HEADER)
    .usage(HEADER)
    .literal(AnsiColor::Green.on_default())
    .placeholder(HINT)
    .error(ERROR)
    .valid(GOOD)
    .invalid(WARNING);

/// What is painted at the beginning of a line, after spaces.
const BEGINNINGS: [(&str, Style); 5] =
    [("error:", ERROR), ("sluicegate:", ERROR), ("warning:", WARNING), ("help:", HINT), ("-->", HINT)];

/// What is painted wherever it stands as a word.
const WORDS: [(&str, Style); 4] =
    [(" FAILED", ERROR), (" REFUSED", ERROR), (" accepted", GOOD), (" cannot be told", WARNING)];

/// Writes a report to stdout.
///
/// # Errors
/// stdout is closed.
pub(super) fn to_stdout(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(report(text).as_bytes())?;
    stdout.flush()
}

/// Writes problems to stderr. Nothing can be done if nobody reads them.
pub(super) fn to_stderr(text: &str) {
    let _nobody_reads = anstream::stderr().lock().write_all(problems(text).as_bytes());
}

/// Problems, with their beginnings painted.
fn problems(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() + 64);
    text.split_inclusive('\n').for_each(|line| beginning(&mut painted, line));
    painted
}

/// A report, with verdicts painted.
fn report(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let verdict = WORDS.iter().find_map(|(word, style)| Some((line.split_once(word)?, word, style)));
        match verdict {
            // Only where verdicts stand: behind the name of what is judged.
            Some(((before, after), word, style)) if before.trim().split(' ').count() <= 2 => {
                let _infallible = write!(painted, "{before}{style}{word}{style:#}{after}");
            }
            _ => beginning(&mut painted, line),
        }
    }
    painted
}

fn beginning(painted: &mut String, line: &str) {
    let text = line.trim_start_matches(' ');
    let found = BEGINNINGS.iter().find_map(|(word, style)| Some((text.strip_prefix(word)?, word, style)));
    let Some((rest, word, style)) = found else {
        painted.push_str(line);
        return;
    };
    let indent = &line[..line.len() - text.len()];
    let _infallible = write!(painted, "{indent}{style}{word}{style:#}{rest}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beginnings_and_verdicts_are_painted() {
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        let text =
            "error: a: wrong\n  --> gateway.toml:1:2\n  help: no error: here\n\ngateway.toml: 1 problem\n";
        let painted = problems(text);
        assert_eq!(painted.matches("\u{1b}[0m").count(), 3, "{painted:?}");
        assert_eq!(plain(&painted), text);
        let text = "  key 1    REFUSED (GET /v1/models: 401)\n  tls      FAILED after 3 ms: accepted nothing\nopenai  ok\n";
        let painted = report(text);
        assert_eq!(painted.matches("\u{1b}[0m").count(), 2, "{painted:?}");
        assert_eq!(plain(&painted), text);
    }
}
