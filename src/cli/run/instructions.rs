//! What `run` prints: where the gateway is, and commands to try it.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use super::{
    Started,
    access::{Access, Origin, VARIABLE},
    file::{Plan, Tls},
    providers::{Base, KNOWN, Provider},
};
use crate::cli::paste;

/// A path, for a shell.
fn shell_path(path: &Path) -> String {
    paste::word(&path.to_string_lossy()).into_owned()
}

/// The variables that `run` looks for, one a line.
pub(super) fn variables() -> String {
    let mut text = String::new();
    for known in KNOWN {
        let also = match known.base {
            Base::Url(_) | Base::Usual { .. } => String::new(),
            Base::Variable { variable, .. } => format!(" with {variable}"),
        };
        let _ = write!(text, "\n  {:22} {}{also}", known.variable, known.title);
    }
    text
}

/// The text for a gateway that has started and listens at these addresses; `written` is the configuration file that was saved.
pub(super) fn of(
    plan: &Plan<'_>,
    started: &Started,
    addresses: &[SocketAddr],
    written: Option<&Path>,
) -> String {
    let mut text = String::from("Sluicegate is running. Ctrl-C stops it.\n\n");
    for (index, (provider, found)) in plan.providers.iter().zip(&started.found).enumerate() {
        let _ = writeln!(text, "  provider    {} ({}): {}", provider.title, provider.base, found.state);
        if plan.providers.len() > 1 {
            let _ = writeln!(text, "    models    {}", models(plan, index));
        }
    }
    if started.left_out > 0 {
        let _ = writeln!(text, "    models    {} more go to the first provider", started.left_out);
    }
    for (provider, detail) in &started.not_served {
        let variable = provider.variable.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  not served  {} refuses the key in {variable} ({detail})", provider.title);
    }
    let gateway = Gateway::of(plan, addresses);
    let _ = writeln!(text, "  base_url    {}/v1", gateway.origin);
    if let (Some(Tls { folder, .. }), Some(plain)) = (plan.tls, addresses.last()) {
        let _ = writeln!(text, "  without TLS http://{plain}/v1");
        let _ = writeln!(text, "  trust       {}/ca.pem (made for this run)", folder.display());
    }
    let _ = writeln!(text, "  client key  {}", key_line(plan));
    let _ = writeln!(text, "  admin       http://{}", plan.admin);
    if let Some(file) = written {
        let _ = writeln!(
            text,
            "  saved as    {} (sluicegate serve --config {})",
            file.display(),
            shell_path(file)
        );
    }
    if let Some((provider, found)) = plan.providers.iter().zip(&started.found).next() {
        let model = found.model.as_deref().or(provider.model).unwrap_or(UNKNOWN);
        let _ = write!(text, "\n{}", commands(provider, model, plan.access, &gateway));
    }
    text.push_str("One log line for each request follows.\n\n");
    text
}

/// Stands for the name of a model, where none is known.
const UNKNOWN: &str = "MODEL";

/// The most names that are printed for one provider.
const MOST_NAMES: usize = 8;

/// Which models go to one of several providers.
fn models(plan: &Plan<'_>, index: usize) -> String {
    let own = plan.rules.iter().filter(|rule| rule.provider == index);
    let names: Vec<&str> = own.map(|rule| &*rule.name).collect();
    let mut parts: Vec<String> = names.iter().take(MOST_NAMES).map(|name| (*name).to_owned()).collect();
    if let Some(more) = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
        parts.push(format!("and {more} more"));
    }
    if index == 0 {
        parts = vec!["all that are not another provider's".to_owned()];
    }
    if plan.providers.get(index).is_some_and(Provider::is_anthropic) && index > 0 {
        parts.push("and everything at /v1/messages".to_owned());
    }
    if parts.is_empty() { "none that the others lack".to_owned() } else { parts.join(", ") }
}

fn key_line(plan: &Plan<'_>) -> String {
    match plan.access {
        // The demo, which keeps nothing.
        Access::Key { key, origin: Origin::Made } if plan.tls.is_some() => {
            format!("{} (made for this run)", **key)
        }
        Access::Open => "none is required; requests from web pages are refused".to_owned(),
        Access::Key { key, origin: Origin::Made } => {
            format!("{} (made for this run; --client-key-file FILE keeps one)", **key)
        }
        Access::Key { origin: Origin::Variable, .. } => format!("the one in {VARIABLE}"),
        Access::Key { origin: Origin::File(file), .. } => format!("the one in {}", file.display()),
    }
}

/// How the printed commands reach the gateway.
struct Gateway<'a> {
    /// Scheme, host and port.
    origin: String,
    tls: Option<Tls<'a>>,
}

impl<'a> Gateway<'a> {
    fn of(plan: &Plan<'a>, addresses: &[SocketAddr]) -> Self {
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let address = addresses.first().copied().unwrap_or(plan.listen);
        Self { origin: format!("{scheme}://{address}"), tls: plan.tls }
    }

    /// The URL of an operation, for a shell: some expand the brackets of IPv6.
    fn url(&self, path: &str) -> String {
        paste::word(&format!("{}{path}", self.origin)).into_owned()
    }

    /// curl's option for the authority.
    fn trusted(&self) -> String {
        self.tls
            .map(|tls| format!(" --cacert {}", shell_path(&tls.folder.join("ca.pem"))))
            .unwrap_or_default()
    }

    /// The line that starts Python: in an environment of its own if there is a folder for it.
    fn python(&self, package: &str) -> String {
        match self.tls {
            Some(Tls { folder, .. }) => {
                let venv = shell_path(&folder.join("venv"));
                format!(
                    "python3 -m venv {venv} && {venv}/bin/pip install --quiet {package} && {venv}/bin/python -"
                )
            }
            None => "python3 -".to_owned(),
        }
    }

    /// The arguments of an SDK's client: base URL, and a connection that trusts the authority.
    fn arguments(&self, package: &str, path: &str, key: &str) -> String {
        let trusting = self.tls.map(|tls| {
            let ca = tls.folder.join("ca.pem");
            format!(
                ", http_client={package}.DefaultHttpxClient(verify=ssl.create_default_context(cafile={ca:?}))"
            )
        });
        format!("base_url=\"{}{path}\", api_key={key}{}", self.origin, trusting.unwrap_or_default())
    }
}

/// A streamed response with curl, and with the provider's SDK.
fn commands(provider: &Provider, model: &str, access: &Access, gateway: &Gateway<'_>) -> String {
    let (shell, python) = match access {
        Access::Open => ("none".to_owned(), "\"none\"".to_owned()),
        Access::Key { key, origin: Origin::Made } => ((**key).clone(), format!("{:?}", **key)),
        Access::Key { origin: Origin::Variable, .. } => {
            (format!("${VARIABLE}"), format!("os.environ[{VARIABLE:?}]"))
        }
        Access::Key { origin: Origin::File(file), .. } => {
            (format!("$(cat {})", shell_path(file)), format!("open({file:?}).read().strip()"))
        }
    };
    let is_anthropic = provider.is_anthropic();
    let curl = if is_anthropic { anthropic_curl } else { openai_curl };
    let Sdk { package, path, code } = if is_anthropic { ANTHROPIC_SDK } else { OPENAI_SDK };
    let (start, arguments) = (gateway.python(package), gateway.arguments(package, path, &python));
    let code = code.replace("ARGUMENTS", &arguments).replace("MODEL", model);
    let replace = if model == UNKNOWN { ", with the name of a model in the place of MODEL" } else { "" };
    format!(
        "Try it in another terminal{replace}:\n\n{}\n\nThe same with an SDK for Python (pip install {package}):\n\n{start} <<'PYTHON'\n{code}\nPYTHON\n\n",
        curl(gateway, model, &shell)
    )
}

/// An SDK for Python.
struct Sdk {
    package: &'static str,
    /// What its base URL ends with.
    path: &'static str,
    /// A program that prints a streamed response.
    code: &'static str,
}

const OPENAI_SDK: Sdk = Sdk {
    package: "openai",
    path: "/v1",
    code: r#"import openai, os, ssl
client = openai.OpenAI(ARGUMENTS)
for chunk in client.chat.completions.create(model="MODEL", stream=True, messages=[{"role": "user", "content": "Hello"}]):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
print()"#,
};

const ANTHROPIC_SDK: Sdk = Sdk {
    package: "anthropic",
    path: "",
    code: r#"import anthropic, os, ssl
client = anthropic.Anthropic(ARGUMENTS)
with client.messages.stream(model="MODEL", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()"#,
};

fn openai_curl(gateway: &Gateway<'_>, model: &str, key: &str) -> String {
    let (url, trusted) = (gateway.url("/v1/chat/completions"), gateway.trusted());
    format!(
        r#"curl -N{trusted} {url} -H "authorization: Bearer {key}" -H "content-type: application/json" -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'"#
    )
}

fn anthropic_curl(gateway: &Gateway<'_>, model: &str, key: &str) -> String {
    let (url, trusted) = (gateway.url("/v1/messages"), gateway.trusted());
    format!(
        r#"curl -N{trusted} {url} -H "x-api-key: {key}" -H "anthropic-version: 2023-06-01" -H "content-type: application/json" -d '{{"model": "{model}", "max_tokens": 100, "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'"#
    )
}
