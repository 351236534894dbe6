//! `log`: the gateway's JSON lines, for people.

mod entry;
mod filter;
mod input;
pub(super) mod text;

use std::{
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anstream::ColorChoice;
use clap::Args;

use entry::Entry;
use filter::Filter;
use input::Input;
use text::Writer;

/// What is read, and which of it is shown.
#[derive(Debug, Args)]
pub(super) struct LogOptions {
    /// File with the gateway's log, or "-" for standard input. Without it: standard input if that is a pipe, else the journal of --unit
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Go on with lines that are written from now on; a file may be rotated meanwhile
    #[arg(long, short)]
    follow: bool,
    /// Unit whose journal is read
    #[arg(long, value_name = "UNIT", default_value = "sluicegate")]
    unit: String,
    #[command(flatten)]
    filter: Filter,
    /// Print the lines that fit as they are; control characters in them are escaped
    #[arg(long)]
    raw: bool,
}

/// Why lines cannot be shown.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("the journal cannot be read by journalctl")]
    Journal(#[source] io::Error),
    #[error("journalctl failed: it says why above")]
    JournalFailed,
    #[error("reading failed")]
    Read(#[source] io::Error),
}

/// Shows the lines that fit.
pub(super) fn run(options: &LogOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

fn show(options: &LogOptions) -> Result<(), Error> {
    let mut input = open(options)?;
    let stdout = io::stdout().lock();
    let colours = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
    let mut writer = Writer::new(colours);
    let mut out = io::BufWriter::new(anstream::AutoStream::auto(stdout));
    let is_live = options.follow || out.get_ref().is_terminal();
    while let Some(line) = input.next(&mut out).map_err(Error::Read)? {
        let entry = Entry::read(&line);
        if !options.filter.fits(&entry) {
            continue;
        }
        let written = if options.raw {
            writeln!(out, "{}", text::escaped(entry.original()))
        } else {
            writer.write(&entry, &mut out)
        };
        // The reader has closed the pipe, as `head` does.
        let flushed = written.and_then(|()| if is_live { out.flush() } else { Ok(()) });
        if flushed.is_err() {
            return Ok(());
        }
    }
    let _reader_has_enough = out.flush();
    input.end()
}

fn open(options: &LogOptions) -> Result<Input, Error> {
    match &options.file {
        Some(path) if path.as_os_str() != "-" => {
            Input::file(path, options.follow).map_err(|error| Error::File(path.clone(), error))
        }
        None if io::stdin().is_terminal() => {
            Input::journal(&options.unit, options.follow).map_err(Error::Journal)
        }
        _ => Ok(Input::stdin()),
    }
}
