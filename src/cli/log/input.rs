//! Where lines come from: a file that may be rotated, standard input, or the journal.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::Error;

/// How often a followed file is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// Limit in bytes of a line; the rest of a longer one is a line of its own.
const LONGEST: u64 = 1 << 20;

/// A source of lines.
#[derive(Debug)]
pub(super) struct Input {
    source: Source,
    /// The part of a line whose end has not been written yet.
    partial: Vec<u8>,
}

#[derive(Debug)]
enum Source {
    /// A file, read to its end.
    File(BufReader<File>),
    /// A file that is read on.
    Followed {
        file: BufReader<File>,
        path: PathBuf,
    },
    Stdin(BufReader<io::Stdin>),
    Journal {
        out: BufReader<std::process::ChildStdout>,
        child: Child,
    },
}

impl Input {
    /// The lines of a file, and with `follow` those that are still written to it, or to the file that takes its name.
    pub(super) fn file(path: &Path, follow: bool) -> io::Result<Self> {
        let file = BufReader::new(File::open(path)?);
        Ok(Self::of(if follow {
            Source::Followed { file, path: path.to_owned() }
        } else {
            Source::File(file)
        }))
    }

    /// The lines of standard input.
    pub(super) fn stdin() -> Self {
        Self::of(Source::Stdin(BufReader::new(io::stdin())))
    }

    /// What `unit` has written to the journal since the system was started.
    pub(super) fn journal(unit: &str, follow: bool) -> io::Result<Self> {
        let mut command = Command::new("journalctl");
        command.args(["--unit", unit, "--output", "cat", "--all", "--boot", "--no-pager", "--quiet"]);
        if follow {
            command.arg("--follow");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("journalctl has no output"))?;
        Ok(Self::of(Source::Journal { out: BufReader::new(out), child }))
    }

    fn of(source: Source) -> Self {
        Self { source, partial: Vec::new() }
    }

    /// The next line, without its end; `None` at the end of all. Waits for it where lines are still written, and flushes `out` before that.
    pub(super) fn next(&mut self, out: &mut impl Write) -> io::Result<Option<String>> {
        loop {
            let read = match &mut self.source {
                Source::File(file) | Source::Followed { file, .. } => read_line(file, &mut self.partial)?,
                Source::Stdin(stdin) => read_line(stdin, &mut self.partial)?,
                Source::Journal { out, .. } => read_line(out, &mut self.partial)?,
            };
            if read {
                return Ok(Some(self.take()));
            }
            let Source::Followed { file, path } = &mut self.source else {
                return Ok((!self.partial.is_empty()).then(|| self.take()));
            };
            let _reader_has_enough = out.flush();
            match successor(file, path)? {
                Some(next) => {
                    *file = next;
                    // The old file's last line has no end.
                    if !self.partial.is_empty() {
                        return Ok(Some(self.take()));
                    }
                }
                None => thread::sleep(PAUSE),
            }
        }
    }

    /// Ends the source.
    pub(super) fn end(self) -> Result<(), Error> {
        if let Source::Journal { mut child, .. } = self.source {
            let status = child.wait().map_err(Error::Journal)?;
            if !status.success() {
                return Err(Error::JournalFailed);
            }
        }
        Ok(())
    }

    fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.partial);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
    }
}

/// Reads up to the end of a line into `line`; false if there is none yet.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let room = LONGEST.saturating_sub(line.len() as u64);
    from.take(room).read_until(b'\n', line)?;
    Ok(line.ends_with(b"\n") || line.len() as u64 >= LONGEST)
}

/// The file that is read on instead of `file`, whose end has been read: the one that has its path now, or itself if it was cut short. `None`: nothing
/// has changed. Called only at the end of `file`, so that nothing that was written to it before the rotation is missed.
fn successor(file: &mut BufReader<File>, path: &Path) -> io::Result<Option<BufReader<File>>> {
    use std::io::{Seek, SeekFrom};
    let own = file.get_ref().metadata()?;
    let Ok(current) = std::fs::metadata(path) else { return Ok(None) };
    let is_other = (own.dev(), own.ino()) != (current.dev(), current.ino());
    let position = file.stream_position()?;
    if is_other && own.len() <= position {
        return Ok(File::open(path).ok().map(BufReader::new));
    }
    if !is_other && current.len() < position {
        file.seek(SeekFrom::Start(0))?;
        return Ok(Some(BufReader::new(file.get_ref().try_clone()?)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("sluicegate-log-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn append(path: &Path, text: &str) {
        File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_followed_file_may_be_renamed_and_cut_and_no_line_is_lost_or_torn() {
        let folder = folder("follow");
        let path = folder.join("log");
        append(&path, "one\ntw");
        let mut input = Input::file(&path, true).unwrap();
        let mut next = || input.next(&mut io::sink()).unwrap().unwrap();
        assert_eq!(next(), "one");
        append(&path, "o\nthree\n");
        assert_eq!((next(), next()), ("two".into(), "three".into()));
        // Renamed, and the writer still has the old file for a while.
        let old = folder.join("log.1");
        fs::rename(&path, &old).unwrap();
        append(&old, "four\nunfinished");
        append(&path, "five\n");
        assert_eq!(next(), "four");
        assert_eq!(next(), "unfinished");
        assert_eq!(next(), "five");
        // Copied and cut.
        File::create(&path).unwrap();
        append(&path, "6\n");
        assert_eq!(next(), "6");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_ends_with_its_last_line_and_a_long_line_is_bounded() {
        let folder = folder("end");
        let path = folder.join("log");
        append(&path, &format!("a\r\n{}\nlast", "x".repeat(LONGEST as usize + 5)));
        let mut input = Input::file(&path, false).unwrap();
        let mut next = || input.next(&mut io::sink()).unwrap();
        assert_eq!(next().as_deref(), Some("a"));
        assert_eq!(next().map(|line| line.len()), Some(LONGEST as usize));
        assert_eq!(next().as_deref(), Some("xxxxx"));
        assert_eq!((next().as_deref(), next()), (Some("last"), None));
        fs::remove_dir_all(folder).unwrap();
    }
}
