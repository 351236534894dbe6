//! `completions`, `man` and `schema`: what is made from the program's own definitions.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::config;

/// Which manual page is printed.
#[derive(Debug, Args)]
pub(super) struct ManOptions {
    /// A command with a page of its own, for example: key new
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// There is no command of that name.
#[derive(Debug, thiserror::Error)]
#[error("there is no command `{0}`: `sluicegate --help` lists them")]
struct NoCommand(String);

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "sluicegate", &mut script);
    super::print(String::from_utf8_lossy(&script))
}

/// Prints a manual page, in roff.
pub(super) fn man(options: &ManOptions) -> ExitCode {
    match page(&options.command) {
        Ok(page) => super::print(page),
        Err(error) => super::fail(&error),
    }
}

/// Prints the JSON Schema of the configuration file.
pub(super) fn schema() -> ExitCode {
    super::print(config::schema_text())
}

/// The page of a command, such as `key new`; of the program without one.
fn page(path: &[String]) -> Result<String, NoCommand> {
    let mut command = super::command();
    command.build();
    for name in path {
        let inner = command.find_subcommand(name).cloned();
        command = inner.ok_or_else(|| NoCommand(path.join(" ")))?;
    }
    Ok(manual(command))
}

/// A manual page. The generator calls what stands after the options EXTRA, where readers look for examples.
fn manual(command: Command) -> String {
    let mut page = Vec::new();
    let source = concat!("sluicegate ", env!("CARGO_PKG_VERSION"));
    // Writing to a Vec does not fail.
    let _infallible = clap_mangen::Man::new(command).source(source).render(&mut page);
    String::from_utf8_lossy(&page).replace("\n.SH EXTRA\n", "\n.SH EXAMPLES\n")
}
