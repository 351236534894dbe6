//! `check`: is the file valid, and what does it say? With `--online`, do its targets answer? With `--as`, where would a request go?

mod client_files;
mod dry_run;
mod online;

use std::{
    fmt::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use http::Method;

use crate::config::{self, Choice, Client, Config, Listener, Model, ModelTables, Route, Upstream};

/// What is checked beyond the file.
#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    pub(super) config: super::ConfigFile,
    /// Also ask every target: can it be reached, and does it accept the keys?
    #[arg(long, conflicts_with = "client", group = "asked")]
    online: bool,
    /// Model: with --online, ask for a short streamed answer (costs a few tokens); with --as, check the client's `models`
    #[arg(long, value_name = "NAME", requires = "asked")]
    model: Option<String>,
    /// How long each step of --online may take
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = crate::span::parse, requires = "online")]
    timeout: Duration,
    /// Print the result of --online as JSON
    #[arg(long, requires = "online")]
    json: bool,
    /// Show what would become of a request of this client: route, candidates in order, URLs; nothing is sent
    #[arg(long = "as", value_name = "CLIENT", group = "asked")]
    client: Option<String>,
    /// For --as: the request's method (POST if left out) and path (/v1/chat/completions if left out)
    #[arg(value_name = "[METHOD] PATH", num_args = 1..=2, requires = "client")]
    request: Vec<String>,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints every problem to stderr; or, without problems, warnings and a summary to stdout, or what the options ask for.
pub(super) fn run(path: &Path, options: &CheckOptions) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            super::paint::to_stderr(&format!("{problems}\n"));
            return ExitCode::FAILURE;
        }
    };
    let model = options.model.as_deref();
    if let Some(client) = &options.client {
        return dry_run(config, client, options);
    }
    if options.online {
        let output = if options.json { Output::Json } else { Output::Text };
        return online::run(config, model, options.timeout, output);
    }
    let shown = Sound { path, config: &config }.to_string();
    if config.client_files.is_none() {
        return super::print_report(&shown);
    }
    match client_files::check(config) {
        Ok(files) => super::print_report(&format!("{shown}{files}")),
        Err(error) => super::fail(&error),
    }
}

fn dry_run(config: Config, client: &str, options: &CheckOptions) -> ExitCode {
    let (method, asked) = match &*options.request {
        [method, path] => (method.as_str(), path.as_str()),
        [path, ..] => ("POST", path.as_str()),
        [] => ("POST", "/v1/chat/completions"),
    };
    let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else {
        return super::fail(&InvalidMethod(method.to_owned()));
    };
    let (asked, query) = asked.split_once('?').map_or((asked, None), |(path, query)| (path, Some(query)));
    let request = dry_run::Request { client, method, path: asked, query, model: options.model.as_deref() };
    dry_run::run(config, &request)
}

/// The method of a request is not one.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an HTTP method: write, for example, --as team-a POST /v1/chat/completions")]
struct InvalidMethod(String);

struct Sound<'a> {
    path: &'a Path,
    config: &'a Config,
}

impl fmt::Display for Sound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, config } = self;
        let warnings = match config.warnings.len() {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            several => format!(", {several} warnings"),
        };
        writeln!(f, "{}: ok{warnings}", path.display())?;
        for warning in &config.warnings {
            writeln!(f, "\n{}", warning.describe("warning", path))?;
        }
        f.write_char('\n')?;
        config.listeners.iter().try_for_each(|one| listener(f, one))?;
        if let Some(admin) = &config.admin {
            let token = if admin.token.is_some() { ", with a token" } else { "" };
            writeln!(f, "admin     {}{token}", admin.address)?;
        }
        config.routes.iter().try_for_each(|(name, one)| route(f, name, one))?;
        config.models.iter().try_for_each(|(name, one)| model(f, name, one))?;
        config.upstreams.iter().try_for_each(|(name, one)| upstream(f, name, one))?;
        config.clients.iter().try_for_each(|(name, one)| client(f, name, one))?;
        limits(f, config)
    }
}

fn listener(f: &mut fmt::Formatter<'_>, listener: &Listener) -> fmt::Result {
    write!(f, "listener  {}", listener.address)?;
    let Some(tls) = &listener.tls else {
        return writeln!(f, ", plain{}", if listener.h2c { " with h2c" } else { "" });
    };
    let names: Vec<&str> = tls.certificates.iter().flat_map(|one| &one.names).map(String::as_str).collect();
    let names = if names.is_empty() { "no DNS name".to_owned() } else { names.join(", ") };
    let mutual = if tls.client_ca.is_some() { ", client certificates required" } else { "" };
    writeln!(f, ", TLS for {names}{mutual}")
}

fn route(f: &mut fmt::Formatter<'_>, name: &str, route: &Route) -> fmt::Result {
    let hosts = if route.hosts.is_empty() { String::new() } else { route.hosts.join("|") };
    let methods: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
    let methods = if methods.is_empty() { String::new() } else { format!("{} ", methods.join("|")) };
    let rewrite = route.rewrite.as_ref().map(|to| format!(" as {to}")).unwrap_or_default();
    let open = if route.open { ", open" } else { "" };
    let upstreams: Vec<String> = route.upstreams.iter().map(choice).collect();
    let upstreams = upstreams.join(", ");
    let models = match route.model_tables {
        ModelTables::Off => "",
        ModelTables::Prefer => ", [model] tables first",
        ModelTables::Only => ", [model] tables only",
    };
    writeln!(f, "route     {name}: {methods}{hosts}{}{rewrite} to {upstreams}{open}{models}", route.path)
}

fn model(f: &mut fmt::Formatter<'_>, name: &str, model: &Model) -> fmt::Result {
    let upstreams: Vec<String> = model.upstreams.iter().map(choice).collect();
    let also = if model.aliases.is_empty() { "" } else { "; also called " };
    writeln!(f, "model     {name}: to {}{also}{}", upstreams.join(", "), model.aliases.join(", "))
}

fn choice(choice: &Choice) -> String {
    let model = choice.model.as_ref().map(|model| format!(" as {model}")).unwrap_or_default();
    format!("{}{model}", choice.upstream)
}

fn upstream(f: &mut fmt::Formatter<'_>, name: &str, upstream: &Upstream) -> fmt::Result {
    let targets: Vec<String> = upstream.targets.iter().map(|target| target.url.to_string()).collect();
    let keys = match upstream.keys.len() {
        0 => "no key".to_owned(),
        1 => "1 key".to_owned(),
        several => format!("{several} keys"),
    };
    let is_plain = upstream.targets.iter().any(|target| target.url.scheme_str() == Some("http"));
    let http2 = match (upstream.http2, is_plain) {
        (false, _) => "",
        (true, false) => ", HTTP/2 (WebSocket over HTTP/1.1)",
        (true, true) => {
            ", HTTP/2 without negotiation (WebSocket over HTTP/1.1, which the server must speak too)"
        }
    };
    writeln!(f, "upstream  {name}: {}, {keys}{http2}", targets.join(", "))
}

/// Which limits are shared with other gateways.
fn limits(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    if config.limits.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = config.limits.keys().map(|name| &**name).collect();
    let names = names.join(", ");
    match &config.redis {
        None => writeln!(f, "limits    {names}: counted by each gateway alone"),
        Some(redis) => writeln!(f, "limits    {names}: shared through Redis ({redis})"),
    }
}

fn client(f: &mut fmt::Formatter<'_>, name: &str, client: &Client) -> fmt::Result {
    let routes = client.routes.as_ref().map_or_else(|| "all routes".to_owned(), |routes| routes.join(", "));
    let models = client.models.as_ref().map_or_else(|| "all models".to_owned(), |models| models.join(", "));
    writeln!(f, "client    {name}: {routes}; {models}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_sound_file_is_summed_up_without_its_secrets() {
        let text = r#"
            listener = [{ address = "127.0.0.1:8080", h2c = true }]
            admin = { address = "127.0.0.1:9901" }
            [upstream.openai]
            url = "https://api.openai.com"
            key = { env = "KEY" }
            http2 = true
            [upstream.internal]
            url = "http://llm.example"
            key = { env = "KEY" }
            http2 = true
            [route.openai]
            path = "/v1"
            methods = ["POST"]
            upstreams = ["openai", { upstream = "internal", model = "llama-3" }, "internal"]
            rewrite = "/x"
            [route.models]
            path = "/m"
            upstreams = ["openai"]
            model_tables = "only"
            [model."gpt-4o"]
            upstreams = ["openai", { upstream = "internal", model = "llama-3" }]
            aliases = ["gpt-4", "default"]
            [client.team-a]
            key = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            models = ["gpt-4o*"]
        "#;
        let variable = |name: &str| (name == "KEY").then(|| OsString::from("sk-hidden"));
        let config = config::parse(text, &config::Env::new("", &variable)).expect("sound");
        let shown = Sound { path: Path::new("gateway.toml"), config: &config }.to_string();
        let expected = "\
gateway.toml: ok, 1 warning

warning: upstream.internal.url: the key and all content are sent without TLS
  --> gateway.toml:9:19
  help: write https://, unless the network to the upstream is trusted

listener  127.0.0.1:8080, plain with h2c
admin     127.0.0.1:9901
route     models: /m to openai, [model] tables only
route     openai: POST /v1 as /x to openai, internal as llama-3, internal
model     gpt-4o: to openai, internal as llama-3; also called gpt-4, default
upstream  internal: http://llm.example/, 1 key, HTTP/2 without negotiation (WebSocket over HTTP/1.1, which the server must speak too)
upstream  openai: https://api.openai.com/, 1 key, HTTP/2 (WebSocket over HTTP/1.1)
client    team-a: all routes; gpt-4o*
";
        assert_eq!(shown, expected);
    }
}
