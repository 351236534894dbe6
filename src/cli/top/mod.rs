//! `top`: the live page in a terminal.

mod events;
mod picture;

use std::{
    io::{self, IsTerminal as _, Write},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::Value;
use terminal_size::{Height, Width};
use tokio::{signal::ctrl_c, time::timeout};

use super::{
    health::{self, NoListener},
    log::text::escaped,
};
use events::{Events, Unreachable};
use picture::{Picture, Size};

/// The environment variable with the admin token.
const TOKEN: &str = "SLUICEGATE_ADMIN_TOKEN";

/// Lines and columns where there is no terminal.
const PIPE: Size = Size { columns: 160, lines: usize::MAX };

/// Clears the screen behind what is drawn, shows the cursor and leaves the second screen.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// Enters the second screen and hides the cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";

/// What is shown.
#[derive(Debug, Args)]
pub(super) struct TopOptions {
    #[command(flatten)]
    pub(super) config: super::ConfigFile,
    /// Address of the admin listener, instead of the one in the configuration file
    #[arg(long, value_name = "ADDR", value_parser = super::address)]
    admin: Option<SocketAddr>,
    /// Show the state once (usual where stdout is no terminal)
    #[arg(long)]
    once: bool,
    /// Print the state once, as JSON
    #[arg(long)]
    json: bool,
    /// What the requests in flight are sorted by
    #[arg(long, value_name = "COLUMN", default_value = "age")]
    sort: Sort,
    /// Only requests of this client; a trailing * matches any rest
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only requests for this model; a trailing * matches any rest
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

/// A column that requests are sorted by, the largest first.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Sort {
    /// Time since the request began
    Age,
    /// Time since the last frame of the response
    Silence,
    /// Events per second
    Rate,
    /// Time to the first token
    First,
    /// Number of attempts
    Attempts,
}

/// Why the state cannot be shown.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    NoListener(#[from] NoListener),
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error("the event queue of this command could not be made")]
    Runtime(#[source] io::Error),
}

/// Shows the state until Ctrl-C, or once.
pub(super) fn run(file: &Path, options: &TopOptions) -> ExitCode {
    match show(file, options) {
        Ok(code) => code,
        Err(error) => super::fail(&error),
    }
}

fn show(file: &Path, options: &TopOptions) -> Result<ExitCode, Error> {
    let address = health::admin_listener(file, options.admin)?;
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    let runtime = super::probe::runtime().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let mut events = Events::connect(address, token.as_deref()).await?;
        events.next().await?;
        let once = options.once || options.json || !io::stdout().is_terminal();
        if once {
            // Rates are known from the second state on, if anything goes on.
            let _nothing_goes_on = timeout(Duration::from_millis(1200), events.next()).await;
        }
        if options.json {
            return Ok(super::print(escaped(&format!("{:#}\n", events.state()))));
        }
        if once {
            return Ok(super::print_report(&draw(&events, options, PIPE, false)));
        }
        follow(events, options, address, token.as_deref()).await
    })
}

/// Draws the state again and again until Ctrl-C.
async fn follow(
    mut events: Events,
    options: &TopOptions,
    address: SocketAddr,
    token: Option<&str>,
) -> Result<ExitCode, Error> {
    let _screen = Screen::enter();
    let mut stop = std::pin::pin!(ctrl_c());
    loop {
        Screen::draw(&draw(&events, options, size(), true));
        let heard = tokio::select! {
            _ = stop.as_mut() => return Ok(ExitCode::SUCCESS),
            // Ages grow without an event.
            heard = timeout(Duration::from_secs(1), events.next()) => heard.unwrap_or(Ok(())),
        };
        if let Err(error) = heard {
            Screen::draw(&format!("no connection to {address}: {error}; trying again\n"));
            tokio::select! {
                _ = stop.as_mut() => return Ok(ExitCode::SUCCESS),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            if let Ok(again) = Events::connect(address, token).await {
                events = again;
            }
        }
    }
}

fn draw(events: &Events, options: &TopOptions, size: Size, colours: bool) -> String {
    let fits = |row: &Value| {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| matches(wanted, row[name].as_str().unwrap_or_default()))
        };
        is(&options.client, "client") && is(&options.model, "model")
    };
    Picture { state: events.state(), now: events.now(), size, colours }.draw(options.sort, fits)
}

fn matches(wanted: &str, text: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == text, |beginning| text.starts_with(beginning))
}

fn size() -> Size {
    let (Width(columns), Height(lines)) = terminal_size::terminal_size().unwrap_or((Width(80), Height(24)));
    Size { columns: usize::from(columns), lines: usize::from(lines) }
}

/// The terminal's second screen, which is left when this is dropped.
struct Screen;

impl Screen {
    fn enter() -> Self {
        write(ENTER);
        Self
    }

    /// Draws over what is there, so that nothing flickers.
    fn draw(text: &str) {
        let lines = text.trim_end_matches('\n').replace('\n', "\u{1b}[K\r\n");
        write(&format!("\u{1b}[H{lines}\u{1b}[K\u{1b}[J"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
    }
}

/// Nothing can be done if nobody reads.
fn write(text: &str) {
    let mut stdout = anstream::stdout().lock();
    let _nobody_reads = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
