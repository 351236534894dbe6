//! What `run` prints: where the gateway is, and commands to try it.

use std::{fmt::Write as _, net::SocketAddr};

use super::{
    Started,
    access::{Access, Origin, VARIABLE},
    file::Plan,
    providers::{Base, KNOWN, Provider},
};

/// The variables that `run` looks for, one a line.
pub(super) fn variables() -> String {
    let mut text = String::new();
    for known in KNOWN {
        let also = match known.base {
            Base::Url(_) => String::new(),
            Base::Variable { variable, .. } => format!(" with {variable}"),
        };
        let _ = write!(text, "\n  {:22} {}{also}", known.variable, known.title);
    }
    text
}

/// The text for a gateway that has started.
pub(super) fn of(plan: &Plan<'_>, started: &Started<'_>) -> String {
    let (mut text, address) = (String::new(), started.address);
    text.push_str("Sluicegate is running. Ctrl-C stops it.\n\n");
    for (provider, found) in plan.providers.iter().zip(&started.found) {
        let _ = writeln!(text, "  provider    {} ({}): {}", provider.title, provider.base, found.state);
    }
    for provider in &started.left_out {
        let variable = provider.variable.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "  not served  {} ({variable}): several providers need a configuration file",
            provider.title
        );
    }
    let _ = writeln!(text, "  base_url    http://{address}/v1");
    let _ = writeln!(text, "  client key  {}", key_line(plan.access));
    let _ = writeln!(text, "  admin       http://{}", plan.admin);
    if let Some(file) = started.written {
        let _ = writeln!(text, "  saved as    {0} (sluicegate serve --config {0})", file.display());
    }
    if let Some((provider, found)) = plan.providers.iter().zip(&started.found).next() {
        let model = found.model.as_deref().or(provider.model).unwrap_or("MODEL");
        let _ = write!(text, "\n{}", commands(provider, model, plan.access, address));
    }
    text.push_str("One log line for each request follows.\n\n");
    text
}

fn key_line(access: &Access) -> String {
    match access {
        Access::Open => "none is required; requests from web pages are refused".to_owned(),
        Access::Key { key, origin: Origin::Made } => {
            format!("{} (made for this run; --client-key-file FILE keeps one)", **key)
        }
        Access::Key { origin: Origin::Variable, .. } => format!("the one in {VARIABLE}"),
        Access::Key { origin: Origin::File(file), .. } => format!("the one in {}", file.display()),
    }
}

/// A streamed response with curl, and with the provider's SDK.
fn commands(provider: &Provider, model: &str, access: &Access, address: SocketAddr) -> String {
    let key = match access {
        Access::Open => "none".to_owned(),
        Access::Key { key, origin: Origin::Made } => (**key).clone(),
        Access::Key { origin: Origin::Variable, .. } => format!("${VARIABLE}"),
        Access::Key { origin: Origin::File(file), .. } => format!("$(cat {})", file.display()),
    };
    if provider.is_anthropic() {
        return format!(
            r#"Try it in another terminal:

curl -N http://{address}/v1/messages -H "x-api-key: {key}" -H "anthropic-version: 2023-06-01" -H "content-type: application/json" -d '{{"model": "{model}", "max_tokens": 100, "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

The same with the Anthropic SDK for Python:

client = anthropic.Anthropic(base_url="http://{address}", api_key="{key}")

"#
        );
    }
    format!(
        r#"Try it in another terminal:

curl -N http://{address}/v1/chat/completions -H "authorization: Bearer {key}" -H "content-type: application/json" -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

The same with the OpenAI SDK for Python:

client = openai.OpenAI(base_url="http://{address}/v1", api_key="{key}")

"#
    )
}
