//! Errors of a run in the words of its options and variables: the reader has not seen its configuration.

use std::net::{SocketAddr, TcpListener};

use super::{Session, file::ANTHROPIC_AS_OPENAI, providers::Provider};
use crate::{
    app::{AppError, Unbound},
    config::Problem,
};

/// How many ports behind a taken one are tried for a proposal.
const PORTS_TRIED: u16 = 50;

/// An error of the start, with the options of the addresses that it is about.
pub(super) fn start(session: &Session<'_>, error: AppError) -> super::Error {
    match error {
        AppError::Bind(unbound) => super::Error::Bind(bind(session.options, &unbound)),
        error => super::Error::App(error),
    }
}

/// One line for each problem of the run's configuration, which begins with the option or the variable that caused it.
pub(super) fn problems(session: &Session<'_>, providers: &[Provider], problems: &[Problem]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for problem in problems {
        let origin = origin(session, providers, &problem.path);
        let mut message = problem.message.to_string();
        for (index, (_, option)) in session.options.iter().enumerate() {
            message = message.replace(&format!("listener[{index}].address"), option);
        }
        let help = if problem.help.is_empty() { String::new() } else { format!("; {}", problem.help) };
        let line = format!("{origin} {message}{help}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn bind(options: &[(SocketAddr, &'static str)], unbound: &Unbound) -> String {
    let option =
        |address: SocketAddr| options.iter().find(|(known, _)| *known == address).map(|(_, name)| *name);
    let said = unbound.describe(|one| option(one.error.address()).unwrap_or(&one.key).to_owned());
    let mut spoken_for: Vec<SocketAddr> = options.iter().map(|(address, _)| *address).collect();
    let mut proposals = Vec::new();
    for address in unbound.taken() {
        let Some((name, free)) = option(address).zip(free_after(address, &spoken_for)) else { continue };
        spoken_for.push(free);
        proposals.push(format!("{name} {free}"));
    }
    if proposals.is_empty() { said } else { format!("{said}; try {}", proposals.join(" ")) }
}

/// The next port on which nobody listens now.
fn free_after(address: SocketAddr, spoken_for: &[SocketAddr]) -> Option<SocketAddr> {
    let ports = (1..=PORTS_TRIED).filter_map(|step| address.port().checked_add(step));
    let mut addresses = ports.map(|port| SocketAddr::new(address.ip(), port));
    addresses.find(|next| !spoken_for.contains(next) && TcpListener::bind(next).is_ok())
}

/// The option or the variable from which the value at `path` comes.
fn origin(session: &Session<'_>, providers: &[Provider], path: &str) -> String {
    let option = |index: usize| session.options.get(index).map(|(_, option)| (*option).to_owned());
    let found = if path == "admin.address" {
        option(session.options.len().saturating_sub(1))
    } else if let Some(rest) = path.strip_prefix("listener[") {
        rest.split(']').next().and_then(|index| option(index.parse().ok()?))
    } else {
        of_provider(providers, path)
    };
    found.unwrap_or_else(|| path.to_owned())
}

fn of_provider(providers: &[Provider], path: &str) -> Option<String> {
    let (name, key) = path.strip_prefix("upstream.")?.rsplit_once('.')?;
    let is_meant = |one: &&Provider| one.name == name || (one.is_anthropic() && name == ANTHROPIC_AS_OPENAI);
    let provider = providers.iter().find(is_meant)?;
    match key {
        "url" => Some(provider.address_variable().unwrap_or("--to").to_owned()),
        "key" => provider.variable.clone(),
        _ => None,
    }
}
