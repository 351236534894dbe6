//! The command line: the subcommands, their options, and their implementations.

pub mod cert;
mod check;
mod client;
mod demo;
mod health;
mod key;
mod log;
mod pages;
mod paint;
mod paste;
mod probe;
mod run;
mod serve;
mod simulate;
mod top;
mod version;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;

/// The configuration file, unless `--config` names another one.
const CONFIG: &str = "gateway.toml";

/// Parses the process's arguments and runs the subcommand. Invalid arguments end the process with code 2 and a usage text.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { command, config: ConfigFile { config: above } } = Cli::parse();
    let command = command.unwrap_or(Command::Serve(ConfigFile { config: None }));
    // `--config` before a command is for the command, if it reads the file.
    if above.is_some() && command.config().is_none() {
        let message = "--config has no meaning for this command: it reads no configuration file";
        self::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let named = command.config().and_then(|own| own.config.clone()).or(above);
    let file = named.unwrap_or_else(|| PathBuf::from(CONFIG));
    match command {
        Command::Serve(_) => serve::run(&file),
        Command::Check(options) => check::run(&file, &options),
        Command::Run(options) => run::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Key(KeyCommand::New(options)) => key::new(&options),
        Command::Cert(options) => cert::run(&options),
        Command::Health(options) => health::run(&file, &options),
        Command::Client(options) => client::run(&file, &options),
        Command::Top(options) => top::run(&file, &options),
        Command::Log(options) => log::run(&options),
        Command::Schema => pages::schema(),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man(options) => pages::man(&options),
    }
}

/// The definition of the command line, for generating manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// A streaming reverse proxy for OpenAI-compatible APIs
///
/// Sluicegate terminates TLS, authenticates clients by keys of their own, replaces those by the upstream's key, and forwards the
/// upstream's stream unchanged. An OpenAI SDK client only needs a different base_url. One TOML file configures the gateway;
/// without a subcommand, `serve` runs.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, long_version = version::LONG, styles = paint::HELP, after_long_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigFile,
}

/// As [`crate::simulator`] has it.
const SCRIPTS: &str = "\
Example:
  sluicegate simulate --listen 127.0.0.1:9090
  curl -N 127.0.0.1:9090/v1/chat/completions -H 'x-simulate: frames=5; interval=200; cut=300; by=reset' \\
    -H 'content-type: application/json' -d '{\"model\":\"any\",\"stream\":true,\"messages\":[]}'

x-simulate: key=value; key=value; flag
  content    frames=N size=N usage=IN,OUT status=N retry-after=TEXT newline=lf|crlf|cr comments no-done error-event malformed
  sending    delay=SPAN (before the head) first=SPAN (before the first event) interval=SPAN batch=N split=N
             length=known|chunked|close trailers early
  accidents  cut=N|head (after N bytes) by=reset|close|chunk-error|no-error stall=N gate=N

Models: sim-f200-i10-b16-d50-s1000 sets frames, interval, batch, delay (ms) and size; missing-ANYTHING is an unknown model (404).";

const EXAMPLES: &str = "\
Examples:
  sluicegate demo                          try it without a key or a configuration file
  sluicegate cert                          create a development certificate in certs/
  sluicegate key new team-a                create a client key and its [client.team-a] table
  sluicegate check                         report every problem in gateway.toml
  sluicegate serve --config /etc/sluicegate/gateway.toml

Exit codes: 0 success, 1 failure (see stderr), 2 invalid arguments, 3 stopped, but some requests were aborted at the drain deadline.
Colours: on a terminal, unless NO_COLOR is set.";

/// The option of commands that read the configuration file.
#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file [default: gateway.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default without a subcommand)
    ///
    /// Reads the file, binds its listeners, and serves until SIGTERM or SIGINT. Then it drains: new connections are accepted for `server.drain.announce` only, and
    /// requests in flight may finish within `server.drain.deadline`. A second signal aborts them. SIGHUP reloads the file.
    Serve(ConfigFile),
    /// Check the configuration and report every problem in it
    ///
    /// Also loads certificates and secrets as `serve` does, but binds no address. Exits with 1 if there is a problem, if --online finds a target
    /// that cannot be reached or refuses a key, or if the request of --as would be refused.
    #[command(
        after_long_help = "Examples:\n  sluicegate check --config /etc/sluicegate/gateway.toml && systemctl reload sluicegate\n  sluicegate check --online --model gpt-4o-mini\n  sluicegate check --as team-a POST /v1/chat/completions --model gpt-4o-mini"
    )]
    Check(check::CheckOptions),
    /// Run the gateway in front of a provider, without a configuration file
    ///
    /// The providers are those whose keys the environment has (OPENAI_API_KEY, ANTHROPIC_API_KEY, OPENROUTER_API_KEY …), or the server of --to.
    /// With several, the model of a request decides which one gets it, and requests to /v1/messages go to Anthropic.
    /// Makes a client key and prints it once, with a curl command to paste into another terminal.
    #[command(
        after_long_help = "Examples:\n  OPENAI_API_KEY=sk-… sluicegate run\n  sluicegate run --to http://localhost:11434/v1"
    )]
    Run(run::RunOptions),
    /// Try the gateway with a simulated upstream
    ///
    /// Needs no key and no configuration file. Prints a curl command and an SDK snippet to paste into another terminal.
    Demo(DemoOptions),
    /// Run a simulated OpenAI-compatible upstream
    ///
    /// For load tests, and for testing a configuration without a provider. The requested model, or the header `x-simulate`, sets the
    /// response's length, pace and failures.
    #[command(after_long_help = SCRIPTS)]
    Simulate(crate::simulator::Args),
    /// Create client keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Create a development CA and a server certificate signed by it
    ///
    /// Writes ca.pem, ca.key, server.pem and server.key, for localhost, 127.0.0.1, ::1 and each --name. Not for production: anyone
    /// with ca.key can impersonate any server to clients that trust ca.pem.
    #[command(after_long_help = "Example:\n  sluicegate cert --name gateway.internal --name 10.0.0.5")]
    Cert(cert::Options),
    /// Ask whether the gateway is ready
    ///
    /// Asks /readyz of the admin listener that the configuration file names. Prints "ready" and exits with 0, or says why not and exits with
    /// 1. Of the file only [admin] is read, so that a mistake elsewhere does not make a running gateway unhealthy.
    #[command(
        after_long_help = "Examples:\n  sluicegate health --config /etc/sluicegate/gateway.toml\n  HEALTHCHECK CMD [\"sluicegate\", \"health\", \"--admin\", \"127.0.0.1:9901\"]"
    )]
    Health(health::HealthOptions),
    /// Print the settings with which a program uses this gateway
    ///
    /// Ready to paste or to save: address, certificate authority, path and model are those of the configuration file; the key is read from the
    /// environment variable SLUICEGATE_CLIENT_KEY. Each names the version that it was tried with. Without TOOL, lists the tools.
    #[command(
        after_long_help = "Examples:\n  sluicegate client\n  sluicegate client openai-python --as team-a > hello.py\n  sluicegate client claude-code --url https://llm.example.com"
    )]
    Client(client::ClientOptions),
    /// Show what the gateway does now
    ///
    /// The live page of the admin listener, in a terminal: what is wrong, upstreams, and the requests in flight with their clients, models and times.
    /// Ctrl-C ends it. Over a pipe, shows it once. The admin token is read from the environment variable SLUICEGATE_ADMIN_TOKEN.
    #[command(
        after_long_help = "Examples:\n  sluicegate top --config /etc/sluicegate/gateway.toml\n  sluicegate top --admin 127.0.0.1:9901 --sort silence\n  sluicegate top --json | jq .totals"
    )]
    Top(top::TopOptions),
    /// Show the gateway's log to people
    ///
    /// Reads the JSON lines of the gateway from a file, a pipe or the journal, also as journalctl, Docker and Kubernetes wrap them, and shows one line for
    /// each request, with its failed attempts and its error below. Other lines are shown as they are.
    #[command(
        after_long_help = "Examples:\n  sluicegate log --follow\n  sluicegate log --errors /var/log/sluicegate.log\n  kubectl logs deploy/sluicegate | sluicegate log --client 'team-*' --model 'gpt-4o*'\n  sluicegate log --id req_26e8dd6b0ae5a620512986593b66fdb0 --raw | jq .attempts"
    )]
    Log(log::LogOptions),
    /// Print the JSON Schema (draft-07) of the configuration file
    ///
    /// For editors. `#:schema ./gateway.schema.json` in the first line of a TOML file names its schema for Taplo and for "Even Better TOML".
    #[command(after_long_help = "Example:\n  sluicegate schema > gateway.schema.json")]
    Schema,
    /// Print the completions of a shell
    #[command(
        after_long_help = "Examples:\n  sluicegate completions bash > ~/.local/share/bash-completion/completions/sluicegate\n  sluicegate completions zsh > ~/.zfunc/_sluicegate\n  sluicegate completions fish > ~/.config/fish/completions/sluicegate.fish"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page
    #[command(after_long_help = "Examples:\n  sluicegate man | man -l -\n  sluicegate man check | man -l -")]
    Man(pages::ManOptions),
}

impl Command {
    /// Its `--config`, if it reads the configuration file.
    fn config(&self) -> Option<&ConfigFile> {
        match self {
            Self::Serve(config) => Some(config),
            Self::Check(options) => Some(&options.config),
            Self::Health(options) => Some(&options.config),
            Self::Client(options) => Some(&options.config),
            Self::Top(options) => Some(&options.config),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a client key and print it once, with its [client.NAME] table
    ///
    /// The configuration holds only the SHA-256 of the key. Give the key to the client and add the table to gateway.toml; or have its file written
    /// into the directory of [client_files], where a running gateway reads it at once.
    #[command(
        after_long_help = "Examples:\n  sluicegate key new team-a\n  sluicegate key new team-a --group research --write"
    )]
    New(key::NewOptions),
}

/// Where the demo listens.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Listen address with TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = address)]
    pub listen: SocketAddr,
    /// Listen address without TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub plain: SocketAddr,
    /// Listen address of the admin listener: /live, /healthz, /readyz, /metrics, /status, /config
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901", value_parser = address)]
    pub admin: SocketAddr,
}

/// Reads the value of an option that is an address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().unwrap_or_default().parse().unwrap_or(9180_u16);
        format!("write an IP address and a port, for example 127.0.0.1:{port}")
    })
}

/// Writes to stdout. A closed pipe is an error, not a panic.
fn print(text: impl std::fmt::Display) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Writes a report to stdout, with colours on a terminal.
fn print_report(text: &str) -> ExitCode {
    paint::to_stdout(text).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Writes the error and each of its causes to stderr.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("sluicegate: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _infallible = write!(text, ": {error}");
        cause = error.source();
    }
    text.push('\n');
    paint::to_stderr(&text);
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        command().debug_assert();
    }

    /// An option that does nothing misleads.
    #[test]
    fn options_are_only_where_they_act() {
        let named = |command: &clap::Command| {
            command.get_arguments().any(|argument| argument.get_long() == Some("config"))
        };
        let readers: Vec<String> = command()
            .get_subcommands()
            .filter(|command| named(command))
            .map(|command| command.get_name().to_owned())
            .collect();
        assert_eq!(readers, ["serve", "check", "health", "client", "top"]);
        for line in ["key new team-a --config a", "demo --config a", "cert --config a", "schema --config a"] {
            let arguments = std::iter::once("sluicegate").chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
    }

    #[test]
    fn the_contract_is_understood() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).expect(line);
        assert!(parse("sluicegate").command.is_none());
        assert_eq!(parse("sluicegate").config.config, None);
        let serve = parse("sluicegate serve --config a.toml").command.expect("serve");
        let own = serve.config().and_then(|own| own.config.clone());
        assert_eq!(own, Some(PathBuf::from("a.toml")));
        assert_eq!(parse("sluicegate --config b.toml").config.config, Some(PathBuf::from("b.toml")));
        assert!(matches!(parse("sluicegate check").command, Some(Command::Check(_))));
        let Some(Command::Demo(demo)) = parse("sluicegate demo --plain 127.0.0.1:1").command else {
            panic!("demo")
        };
        assert_eq!((demo.listen.port(), demo.plain.port(), demo.admin.port()), (8443, 1, 9901));
        let simulate = parse("sluicegate simulate --listen 127.0.0.1:9090").command;
        assert!(matches!(simulate, Some(Command::Simulate(options)) if options.listen.port() == 9090));
        let key = parse("sluicegate key new team-a").command;
        assert!(matches!(key, Some(Command::Key(KeyCommand::New(options))) if options.name == "team-a"));
        let Some(Command::Cert(_)) = parse("sluicegate cert --name a --name b --force").command else {
            panic!("cert")
        };
    }
}
