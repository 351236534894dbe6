//! The gateway.toml of a run: what is served, and what `--write` saves.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::{access::Access, models::Rule, providers::Provider};
use crate::config::KeyHash;

/// What a run serves.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) listen: SocketAddr,
    /// A listener with TLS, before the other.
    pub(super) tls: Option<Tls<'a>>,
    pub(super) admin: SocketAddr,
    /// At least one.
    pub(super) providers: &'a [Provider],
    /// Which models go to which of several providers.
    pub(super) rules: &'a [Rule],
    pub(super) access: &'a Access,
}

/// A listener with TLS, by a development certificate.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Tls<'a> {
    pub(in crate::cli) address: SocketAddr,
    /// The folder with `server.pem`, `server.key` and `ca.pem`.
    pub(in crate::cli) folder: &'a Path,
}

/// The upstream of Anthropic's models at OpenAI's paths, where the key is sent as OpenAI's is (Anthropic documentation, "OpenAI SDK
/// compatibility").
pub(super) const ANTHROPIC_AS_OPENAI: &str = "anthropic-openai";

/// A configuration with a route to all providers, in which they can be asked.
pub(super) fn all_of(providers: &[Provider]) -> String {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for provider in providers {
        upstream(&mut text, provider);
    }
    let names: Vec<String> = providers.iter().map(|provider| format!("{:?}", provider.name)).collect();
    put(&mut text, "[route.all]\npath = \"/v1\"\nrewrite = \"/\"\naccess = \"open\"");
    put(&mut text, &format!("upstreams = [{}]", names.join(", ")));
    text
}

impl Plan<'_> {
    /// The configuration file of this plan.
    pub(super) fn toml(&self) -> String {
        let mut text = String::from(
            "# Written by `sluicegate run --write`. Serve it with: sluicegate serve --config THIS_FILE\n\
             # Every key, with its default: docs/configuration.md, or the gateway.toml of the distribution.\n\n",
        );
        self.listeners(&mut text);
        for (index, provider) in self.providers.iter().enumerate() {
            if self.is_used(index, provider) {
                upstream(&mut text, provider);
            }
        }
        self.as_openai(&mut text);
        self.routes(&mut text);
        self.models(&mut text);
        if let Access::Key { key, .. } = self.access {
            let hash = KeyHash::of(key.as_bytes());
            put(
                &mut text,
                "# A client. The file has only the hash of its key; `sluicegate key new NAME` makes more of them.",
            );
            put(&mut text, "[client.you]");
            put(&mut text, &format!("key = \"{hash}\""));
        }
        text
    }

    fn listeners(&self, text: &mut String) {
        if let Some(Tls { address, folder }) = self.tls {
            let [certificate, key] = ["server.pem", "server.key"].map(|name| folder.join(name));
            put(text, "[[listener]]");
            put(text, &format!("address = {:?}", address.to_string()));
            put(text, &format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n"));
        }
        put(text, "# Without TLS, so on loopback only. For other machines, add:");
        put(text, "# tls = { certificate = \"certs/server.pem\", key = \"certs/server.key\" }");
        put(text, "[[listener]]");
        put(text, &format!("address = {:?}\n", self.listen.to_string()));
        put(text, "# /live, /healthz, /readyz, /metrics, /status and /config");
        put(text, "[admin]");
        put(text, &format!("address = {:?}\n", self.admin.to_string()));
        put(text, "[log]");
        put(text, "format = \"text\"                                 # \"json\" for machines\n");
    }

    /// Whether a route or a rule leads to the provider's own upstream: not if it has no model that the others lack.
    fn is_used(&self, index: usize, provider: &Provider) -> bool {
        index == 0 || provider.is_anthropic() || self.rules.iter().any(|rule| rule.provider == index)
    }

    /// The upstream of a rule.
    fn upstream_of(&self, rule: &Rule) -> &str {
        let provider = self.providers.get(rule.provider);
        let name = provider.map_or("", |provider| &*provider.name);
        if provider.is_some_and(Provider::is_anthropic) { ANTHROPIC_AS_OPENAI } else { name }
    }

    /// Anthropic at OpenAI's paths, if a rule leads there.
    fn as_openai(&self, text: &mut String) {
        let is_needed = self.rules.iter().any(|rule| self.upstream_of(rule) == ANTHROPIC_AS_OPENAI);
        let anthropic = self.providers.iter().find(|provider| provider.is_anthropic());
        if let (true, Some(anthropic)) = (is_needed, anthropic) {
            put(text, "# At OpenAI's paths, Anthropic expects the key as OpenAI does.");
            let name = ANTHROPIC_AS_OPENAI.to_owned();
            upstream(text, &Provider { name, key_header: None, ..anthropic.clone() });
        }
    }

    /// The `[model]` tables.
    fn models(&self, text: &mut String) {
        if self.rules.is_empty() {
            return;
        }
        put(
            text,
            "# Which provider has which models, as they listed them when this file was written. `*` stands for any rest of a name.",
        );
        put(text, "# A model without a table goes to the first provider.");
        for rule in self.rules {
            put(text, &format!("[model.{:?}]", rule.name));
            put(text, &format!("upstreams = [{:?}]\n", self.upstream_of(rule)));
        }
    }

    /// Anthropic's own operations go to Anthropic, everything else to the provider that has the model, and to the first one.
    fn routes(&self, text: &mut String) {
        let anthropic = self.providers.iter().find(|provider| provider.is_anthropic());
        let others: Vec<&Provider> =
            self.providers.iter().filter(|provider| !provider.is_anthropic()).collect();
        let first = others.first().copied().or(anthropic);
        if let (Some(anthropic), false) = (anthropic, others.is_empty()) {
            put(text, "# The paths of Anthropic's API.");
            text.push_str(&self.route("/v1/messages", "/messages", anthropic));
        }
        if let Some(provider) = first {
            put(
                text,
                "# The base URL of an upstream is what an SDK would be given, so `/v1` of the request is replaced by it.",
            );
            let route = self.route("/v1", "/", provider);
            let route = route.trim_end();
            put(text, route);
            if !self.rules.is_empty() {
                put(
                    text,
                    "model_tables = \"prefer\"                         # the [model] tables below come first,",
                );
                put(text, "model_upstreams = \"all\"                         # and may lead to any upstream");
            }
            text.push('\n');
        }
    }

    fn route(&self, path: &str, rewrite: &str, provider: &Provider) -> String {
        let text = &mut String::new();
        put(text, &format!("[route.{}]", provider.name));
        put(text, &format!("path = {path:?}"));
        put(text, &format!("rewrite = {rewrite:?}"));
        put(text, &format!("upstreams = [{:?}]", provider.name));
        if matches!(self.access, Access::Open) {
            put(text, "access = \"open\"                                 # no client key");
            put(
                text,
                "hosts = [\"127.0.0.1\", \"localhost\", \"[::1]\"]     # a web page reaches the gateway under another name",
            );
            put(
                text,
                "refuse_origin = true                            # nor may a web page send requests from a browser",
            );
        }
        text.push('\n');
        std::mem::take(text)
    }
}

fn upstream(text: &mut String, provider: &Provider) {
    put(text, &format!("[upstream.{}]", provider.name));
    put(text, &format!("url = {:?}", provider.base));
    match &provider.variable {
        Some(variable) => put(text, &format!("key = {{ env = {variable:?} }}")),
        None => put(text, "auth = \"none\"                                   # it needs no key"),
    }
    if let (Some(header), true) = (provider.key_header, provider.variable.is_some()) {
        put(text, &format!("auth = {{ header = {header:?} }}"));
    }
    text.push('\n');
}

fn put(text: &mut String, line: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{line}");
}
