//! What real providers send, byte for byte, and what comes of it behind the gateway.
//!
//! The table is the data: one TOML file for each provider in `fixtures/`, one `[[cell]]` for each case. [`fixture`] says what a cell
//! contains, [`run`] sends its request and compares. `docs/providers.md` is generated from the same files ([`page`]).
//!
//! Each cell is tried twice: before an upstream with two keys and nothing else (`alone`), and before the same with a second upstream that
//! always answers (`spare`). The upstream sends the cell's bytes to each request that arrives. Only the framing (`content-length`, chunks)
//! is the harness's: it belongs to HTTP and not to a provider.

mod fixture;
mod page;
mod run;
mod sdk;

use fixture::Provider;

/// One test for each provider, so that a failure names it.
macro_rules! providers {
    ($($name:ident)*) => {
        const PROVIDERS: &[(&str, &str)] =
            &[$((stringify!($name), include_str!(concat!("fixtures/", stringify!($name), ".toml")))),*];

        $(#[tokio::test]
        async fn $name() {
            run::all_cells_of(&provider(stringify!($name))).await;
        })*
    };
}

providers! {
    openai anthropic azure gemini openrouter deepseek groq xai mistral moonshot vllm sglang llamacpp ollama cloudflare
}

fn provider(name: &str) -> Provider {
    let (name, text) = PROVIDERS.iter().find(|(known, _)| *known == name).unwrap();
    Provider::read(name, text)
}

fn all() -> Vec<Provider> {
    PROVIDERS.iter().map(|(name, text)| Provider::read(name, text)).collect()
}
