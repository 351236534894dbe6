//! `limits`: what is used of each limit, as the admin listener of a running gateway says.

use std::{fmt::Write as _, io, net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{
    ask::{self, Answer},
    health::{self, NoListener},
};
use crate::{config, span};

/// The environment variable with the admin token.
const TOKEN: &str = "SLUICEGATE_ADMIN_TOKEN";

/// The most bytes of a response: 1,000 subjects for each of several thousand limits.
const MOST_READ: usize = 64 << 20;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct LimitsOptions {
    /// Name of a client: shows only what its requests count as
    #[arg(value_name = "CLIENT")]
    client: Option<String>,
    #[command(flatten)]
    pub(super) config: super::ConfigFile,
    /// Address of the admin listener, instead of the one in the configuration file
    #[arg(long, value_name = "ADDR", value_parser = super::address)]
    admin: Option<SocketAddr>,
    /// Print the state as JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = span::parse)]
    timeout: Duration,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    NoListener(#[from] NoListener),
    #[error("a client's name has letters, digits, `-`, `_` and `.`")]
    NoName,
    #[error("admin listener {0} does not answer")]
    Unreachable(SocketAddr, #[source] io::Error),
    #[error("admin listener {0} requires its token: set SLUICEGATE_ADMIN_TOKEN")]
    NoToken(SocketAddr),
    #[error("admin listener {0} answers {1:?}")]
    Refused(SocketAddr, String),
    #[error(
        "admin listener {0} answers with something else than the state of limits; is it a gateway of this version?"
    )]
    Unreadable(SocketAddr, #[source] serde_json::Error),
}

/// Prints the limits and returns 0, or the reason why not and 1.
pub(super) fn run(file: &Path, options: &LimitsOptions) -> ExitCode {
    match shown(file, options) {
        Ok(text) => super::print(text),
        Err(error) => super::fail(&error),
    }
}

fn shown(file: &Path, options: &LimitsOptions) -> Result<String, Error> {
    let address = health::admin_listener(file, options.admin)?;
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    let path = match &options.client {
        Some(client) if config::is_name(client) => format!("/limits?client={client}"),
        Some(_) => return Err(Error::NoName),
        None => "/limits".to_owned(),
    };
    let request = ask::Request {
        address,
        path: &path,
        token: token.as_deref(),
        timeout: options.timeout,
        most: MOST_READ,
    };
    let Answer { status, body } = ask::get(&request).map_err(|error| Error::Unreachable(address, error))?;
    if status == "401" {
        return Err(Error::NoToken(address));
    }
    if status != "200" {
        return Err(Error::Refused(address, format!("{status} {}", body.trim()).trim().to_owned()));
    }
    if options.json {
        return Ok(body);
    }
    let state: State = serde_json::from_str(&body).map_err(|error| Error::Unreadable(address, error))?;
    Ok(table(&state))
}

/// What the admin listener says.
#[derive(Deserialize)]
struct State {
    limits: Vec<LimitState>,
}

#[derive(Deserialize)]
struct LimitState {
    name: String,
    each: String,
    enforce: bool,
    units: serde_json::Map<String, Value>,
    subjects: Vec<SubjectState>,
    subjects_not_listed: u64,
}

#[derive(Deserialize)]
struct SubjectState {
    name: Option<String>,
    units: serde_json::Map<String, Value>,
}

const HEADINGS: [&str; 7] = ["LIMIT", "EACH", "SUBJECT", "UNIT", "USED", "OF", "FULL IN"];

/// A line for each subject and unit.
fn table(state: &State) -> String {
    if state.limits.is_empty() {
        return "no limits\n".to_owned();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    let mut not_listed = String::new();
    for limit in &state.limits {
        rows.extend(lines(limit));
        if limit.subjects_not_listed > 0 {
            let _infallible = writeln!(not_listed, "{}: {} more", limit.name, limit.subjects_not_listed);
        }
    }
    aligned(&rows) + &not_listed
}

fn lines(limit: &LimitState) -> Vec<[String; 7]> {
    let name = if limit.enforce { limit.name.clone() } else { format!("{} (only counts)", limit.name) };
    let mut rows = Vec::new();
    for subject in &limit.subjects {
        for (unit, used) in &subject.units {
            let defined = limit.units.get(unit).unwrap_or(&Value::Null);
            let of = [&defined["quantity"], &defined["currency"], &defined["per"]].map(plain);
            let [quantity, currency, per] = &of;
            let money = if currency.is_empty() { String::new() } else { format!(" {currency}") };
            let time = if per.is_empty() { String::new() } else { format!(" per {per}") };
            let full_in = used["full_in_ms"].as_u64().filter(|millis| *millis > 0).map(Duration::from_millis);
            rows.push([
                name.clone(),
                limit.each.clone(),
                subject.name.clone().unwrap_or_else(|| "-".to_owned()),
                unit.clone(),
                plain(&used["used"]),
                format!("{quantity}{money}{time}"),
                full_in.map(in_seconds).unwrap_or_default(),
            ]);
        }
    }
    if rows.is_empty() {
        let unused = ["-", "", "", ""].map(str::to_owned);
        let [subject, unit, of, full_in] = unused;
        rows.push([name, limit.each.clone(), subject, unit, "nothing".to_owned(), of, full_in]);
    }
    rows
}

/// A string or a number without quotes; nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A span in whole seconds, rounded up.
fn in_seconds(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(
        span.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX),
    ))
    .to_string()
}

fn aligned(rows: &[[String; 7]]) -> String {
    let mut widths = [0; 7];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _infallible = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
