//! `client TOOL`: the settings with which a program uses this gateway, ready to paste.

mod gateway;
mod tools;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use http::Uri;

use crate::{
    app::compile_with_client_files,
    config::{Problems, Source},
    snapshot::CompileError,
};
use gateway::Gateway;
use tools::TOOLS;

/// What is printed.
#[derive(Debug, Args)]
pub(super) struct ClientOptions {
    #[command(flatten)]
    pub(super) config: super::ConfigFile,
    /// The program or library; without it, all are listed
    tool: Option<String>,
    /// For this client: its routes and models are respected
    #[arg(long = "as", value_name = "CLIENT")]
    client: Option<String>,
    /// Model to ask for; without it, one that the configuration names, or a usual one of the provider
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Route to use, if there are several
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Address at which clients reach the gateway, if it is not the listener's; for example https://llm.example.com
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// PEM file of the certificate authority that clients must trust, if it is not a public one
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there are no settings for {0:?}; `sluicegate client` lists the tools")]
    NoTool(String),
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Gateway(#[from] gateway::Error),
}

/// Prints the settings for a tool, or the list of tools.
pub(super) fn run(file: &Path, options: &ClientOptions) -> ExitCode {
    let Some(name) = &options.tool else { return super::print(tools::list()) };
    match settings(name, file, options) {
        Ok(text) => super::print(text),
        Err(error) => super::fail(&error),
    }
}

fn settings(name: &str, file: &Path, options: &ClientOptions) -> Result<String, Error> {
    let tool = TOOLS.iter().find(|tool| tool.name == name).ok_or_else(|| Error::NoTool(name.to_owned()))?;
    let config = Source::with(file, variable).read().config?;
    let listeners = config.listeners.clone();
    let (snapshot, _) = compile_with_client_files(config)?;
    let clients = snapshot.callers.names();
    let gateway = Gateway { listeners: &listeners, clients: &clients, snapshot: &snapshot, options };
    Ok(tool.settings(&gateway.settings(tool.api)?))
}

/// The environment, in which every key of an upstream counts as set: the settings contain none, so nobody needs to have them here.
fn variable(name: &str) -> Option<OsString> {
    let stands_in = !name.to_ascii_lowercase().contains("proxy") && name != "CREDENTIALS_DIRECTORY";
    env::var_os(name).or_else(|| stands_in.then(|| OsString::from("not-needed-for-client-settings")))
}
