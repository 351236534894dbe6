//! What `run` prints: where the gateway is, and commands to try it.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

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
            Base::Url(_) | Base::Usual { .. } => String::new(),
            Base::Variable { variable, .. } => format!(" with {variable}"),
        };
        let _ = write!(text, "\n  {:22} {}{also}", known.variable, known.title);
    }
    text
}

/// The text for a gateway that has started and listens at `address`; `written` is the configuration file that was saved.
pub(super) fn of(plan: &Plan<'_>, started: &Started, address: SocketAddr, written: Option<&Path>) -> String {
    let mut text = String::from("Sluicegate is running. Ctrl-C stops it.\n\n");
    for (index, (provider, found)) in plan.providers.iter().zip(&started.found).enumerate() {
        let _ = writeln!(text, "  provider    {} ({}): {}", provider.title, provider.base, found.state);
        if plan.providers.len() > 1 {
            let _ = writeln!(text, "    models    {}", models(plan, index));
        }
    }
    if started.left_out > 0 {
        let _ =
            writeln!(text, "    models    {} more are not told apart and go to the first", started.left_out);
    }
    for (provider, detail) in &started.not_served {
        let variable = provider.variable.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  not served  {} refuses the key in {variable} ({detail})", provider.title);
    }
    let _ = writeln!(text, "  base_url    http://{address}/v1");
    let _ = writeln!(text, "  client key  {}", key_line(plan.access));
    let _ = writeln!(text, "  admin       http://{}", plan.admin);
    if let Some(file) = written {
        let _ = writeln!(text, "  saved as    {0} (sluicegate serve --config {0})", file.display());
    }
    if let Some((provider, found)) = plan.providers.iter().zip(&started.found).next() {
        let model = found.model.as_deref().or(provider.model).unwrap_or("MODEL");
        let _ = write!(text, "\n{}", commands(provider, model, plan.access, address));
    }
    text.push_str("One log line for each request follows.\n\n");
    text
}

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
