//! `upstream.azure`

use http::HeaderName;

use super::{one_problem, sound, with};
use crate::config::{Auth, Azure, Deployment};

const URL: &str = "url = \"https://api.openai.com\"";

fn azure(url: &str, more: &str) -> String {
    with(URL, &format!("url = \"{url}\"\n{more}"))
}

#[test]
fn a_resource_has_a_version_and_its_key_in_its_own_header() {
    let config = sound(&azure("https://r.openai.azure.com", r#"azure = { api_version = "2024-10-21" }"#));
    let upstream = &config.upstreams["openai"];
    let expected = Azure { api_version: "2024-10-21".into(), deployment: Deployment::Model };
    assert_eq!(upstream.azure.as_ref(), Some(&expected));
    assert_eq!(upstream.auth, Auth::Header(HeaderName::from_static("api-key")));
    // A token of Entra ID is sent as OpenAI's key is.
    let more = "azure = { api_version = \"v\", deployment = \"my-gpt\" }\nauth = \"bearer\"";
    let config = sound(&azure("https://r.openai.azure.com", more));
    let upstream = &config.upstreams["openai"];
    assert_eq!(upstream.auth, Auth::Bearer);
    assert_eq!(
        upstream.azure.as_ref().map(|azure| &azure.deployment),
        Some(&Deployment::Named("my-gpt".into()))
    );
}

#[test]
fn mistakes_are_named() {
    let url = "https://r.openai.azure.com";
    for (url, more, expected) in [
        (url, "azure = {}", "upstream.openai.azure.api_version: is missing"),
        (
            url,
            r#"azure = { api_version = "a&b" }"#,
            "upstream.openai.azure.api_version: is not the version of an API",
        ),
        (
            url,
            r#"azure = { api_version = "v", deployment = "a/b" }"#,
            "upstream.openai.azure.deployment: is not the name of a deployment",
        ),
        (
            url,
            r#"azure = { api_version = "v", deployment = ".." }"#,
            "upstream.openai.azure.deployment: is not the name of a deployment",
        ),
        (
            "https://r.openai.azure.com/openai/v1",
            r#"azure = { api_version = "v" }"#,
            "upstream.openai.azure: is not for a URL that ends with `/openai/v1`",
        ),
    ] {
        let problem = one_problem(&azure(url, more));
        assert!(problem.starts_with(expected), "{problem}");
    }
}
