//! `check --online`: are the targets reachable, and do they accept the keys?

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use super::Output;
use crate::{
    cli::probe::{self, KeyAnswer, KeyReport, StreamReport, TargetReport},
    config::{Config, Redis},
    limit::shared,
    snapshot::{CompileError, Snapshot},
    store,
};

/// Why nothing was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("event queue could not be created")]
    Runtime(#[source] io::Error),
}

/// Asks every target, and prints what it found. The code is 1 if a target cannot be reached or refuses a key.
pub(super) fn run(config: Config, model: Option<&str>, timeout: Duration, output: Output) -> ExitCode {
    match ask_all(config, model, timeout) {
        Ok(found) => report(&found, output),
        Err(error) => crate::cli::fail(&error),
    }
}

/// What was found.
struct Found {
    targets: Vec<TargetReport>,
    redis: Option<RedisReport>,
}

/// Whether shared limits work.
#[derive(serde::Serialize)]
struct RedisReport {
    servers: String,
    ms: u64,
    error: Option<String>,
}

fn ask_all(config: Config, model: Option<&str>, timeout: Duration) -> Result<Found, Error> {
    let redis = config.redis.clone();
    let snapshot = Snapshot::compile(config, None)?;
    let runtime = probe::runtime().map_err(Error::Runtime)?;
    let subjects = probe::subjects(&snapshot, timeout);
    let mut reports = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        progress(&format!("asking {} of {}: {}", at + 1, subjects.len(), subject.target.url));
        reports.push(runtime.block_on(probe::ask(subject, model)));
    }
    let redis = redis.map(|redis| {
        progress("asking Redis");
        runtime.block_on(ask_redis(&redis))
    });
    progress("");
    Ok(Found { targets: reports, redis })
}

/// Connects as the gateway does, and runs a script that writes.
async fn ask_redis(redis: &Redis) -> RedisReport {
    let start = Instant::now();
    let answer = store::check(redis, &shared::ping(&redis.prefix)).await;
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    RedisReport { servers: redis.to_string(), ms, error: answer.err().map(|trouble| trouble.to_string()) }
}

/// Shows what is waited for, on a terminal only.
fn progress(text: &str) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        let _nobody_reads = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
    }
}

fn report(found: &Found, output: Output) -> ExitCode {
    let works = found.redis.as_ref().is_none_or(|redis| redis.error.is_none());
    let good = works && found.targets.iter().all(TargetReport::is_good);
    let printed = match output {
        Output::Text => crate::cli::print_report(&Table(found).to_string()),
        Output::Json => {
            let mut shown = serde_json::json!({ "good": good, "targets": found.targets });
            if let Some(redis) = &found.redis {
                shown["redis"] = serde_json::json!(redis);
            }
            match serde_json::to_string_pretty(&shown) {
                Ok(text) => crate::cli::print(format!("{text}\n")),
                Err(error) => crate::cli::fail(&error),
            }
        }
    };
    if good { printed } else { ExitCode::FAILURE }
}

struct Table<'a>(&'a Found);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.targets.iter().enumerate().try_for_each(|(index, report)| {
            if index > 0 {
                f.write_char('\n')?;
            }
            target(f, report)
        })?;
        let Some(RedisReport { servers, ms, error }) = &self.0.redis else { return Ok(()) };
        writeln!(f, "\nRedis  {servers}")?;
        match error {
            None => writeln!(f, "  script   {ms} ms"),
            Some(error) => writeln!(f, "  script   FAILED after {ms} ms: {error}"),
        }
    }
}

fn target(f: &mut fmt::Formatter<'_>, report: &TargetReport) -> fmt::Result {
    writeln!(f, "{}  {}", report.upstream, report.url)?;
    if report.steps.is_empty() {
        writeln!(f, "  through an egress proxy")?;
    }
    for step in &report.steps {
        match &step.error {
            None => writeln!(f, "  {:8} {} ms", step.name, step.ms)?,
            Some(error) => writeln!(f, "  {:8} FAILED after {} ms: {error}", step.name, step.ms)?,
        }
    }
    if let Some(certificate) = &report.certificate {
        let alpn = certificate.alpn.as_ref().map(|alpn| format!(", {alpn}")).unwrap_or_default();
        let left = certificate.days_left;
        writeln!(f, "  issuer   {}, {left} days left{alpn}", certificate.issuer)?;
    }
    report.keys.iter().try_for_each(|report| key(f, report))
}

fn key(f: &mut fmt::Formatter<'_>, report: &KeyReport) -> fmt::Result {
    let name = report.key.map_or_else(|| "no key".to_owned(), |number| format!("key {number}"));
    let verdict = match report.verdict {
        KeyAnswer::Accepted => "accepted",
        KeyAnswer::Refused => "REFUSED",
        KeyAnswer::CannotTell => "cannot be told",
        KeyAnswer::Failed => "FAILED",
        KeyAnswer::NoneNeeded => "answers",
    };
    writeln!(f, "  {name:8} {verdict} ({}; {} ms)", report.detail, report.ms)?;
    report.stream.as_ref().map_or(Ok(()), |report| stream(f, report))
}

fn stream(f: &mut fmt::Formatter<'_>, report: &StreamReport) -> fmt::Result {
    f.write_str("  stream   ")?;
    if let Some(error) = &report.error {
        return writeln!(f, "FAILED: {error}");
    }
    if let Some(first) = report.first_token_ms {
        write!(f, "first content after {first} ms, ")?;
    }
    f.write_str(if report.usage { "usage reported, " } else { "no usage, " })?;
    f.write_str(if report.complete { "complete" } else { "INCOMPLETE: its terminal event is missing" })?;
    f.write_char('\n')
}
