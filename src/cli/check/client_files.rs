//! The files of clients: which cannot be used, and whose keys expire soon.

use std::{error::Error, fmt, time::SystemTime};

use crate::{
    app::compile_with_client_files,
    config::{ClientFilesReport, Config, EXPIRES_SOON, FileProblem},
    snapshot::{CompileError, Snapshot},
};

/// Clients listed whose keys have expired or expire soon.
const LISTED: usize = 100;

/// Why the files cannot be used as they are.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The configuration cannot be compiled.
    Compile(CompileError),
    /// The directory cannot be read, or files in it cannot be used.
    Files(Box<ClientFilesReport>),
}

/// Checks the files of the clients of a configuration, and sums them up.
///
/// # Errors
/// [`Unusable`].
pub(super) fn check(config: Config) -> Result<String, Unusable> {
    let (snapshot, report) = compile_with_client_files(config).map_err(Unusable::Compile)?;
    if report.broken > 0 || report.unreadable.is_some() {
        return Err(Unusable::Files(Box::new(report)));
    }
    let directory = report.directory.display();
    let (warnings, expiring) = (warnings(&report), expiring(&snapshot));
    Ok(format!("files     {directory}: {} clients\n{warnings}{expiring}", report.files))
}

/// What may be a mistake in files, each with its line.
fn warnings(report: &ClientFilesReport) -> String {
    let directory = report.directory.display();
    let warning =
        |FileProblem { file, problem }: &FileProblem| format!("\nwarning: {directory}/{file}: {problem}\n");
    let listed: String = report.warnings.iter().map(warning).collect();
    match report.doubtful.saturating_sub(report.warnings.len()) {
        0 => listed,
        more => format!("{listed}\nwarning: {more} more files may have mistakes\n"),
    }
}

/// Warnings of keys that have expired or expire soon, of clients that have files.
fn expiring(snapshot: &Snapshot) -> String {
    let now = SystemTime::now();
    let first = snapshot.callers.expiries(EXPIRES_SOON, LISTED).first;
    let of_files = first
        .iter()
        .filter(|(_, name)| snapshot.callers.known(name).is_some_and(|known| known.own.is_some()));
    let warning = |(expires, name): &(SystemTime, _)| {
        let verb = if *expires <= now { "expired" } else { "expire" };
        format!(
            "\nwarning: the keys of client `{name}` {verb} at {}\n",
            humantime::format_rfc3339_seconds(*expires)
        )
    };
    of_files.map(warning).collect()
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = match self {
            Self::Compile(_) => return f.write_str("the configuration cannot be used"),
            Self::Files(report) => report,
        };
        let directory = report.directory.display();
        if let Some(problem) = &report.unreadable {
            return write!(f, "{directory}: {problem}");
        }
        write!(f, "{directory}: {} of {} client files cannot be used", report.broken, report.files)?;
        for FileProblem { file, problem } in &report.listed {
            write!(f, "\n  {file}: {problem}")?;
        }
        Ok(())
    }
}

impl Error for Unusable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Compile(error) => Some(error),
            Self::Files(_) => None,
        }
    }
}
