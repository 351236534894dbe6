//! How OpenTelemetry's conventions for generative AI name operations and providers.
//!
//! Source: semantic conventions 1.41, attributes `gen_ai.operation.name` and `gen_ai.provider.name`, with their well-known values.

use super::Endpoint;

/// Providers by the end of their host names.
const PROVIDERS: [(&str, &str); 21] = [
    ("api.openai.com", "openai"),
    (".api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("codestral.mistral.ai", "mistral_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    (".api.x.ai", "x_ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
];

/// The provider behind a host, if the conventions have a name for it.
pub fn provider_of_host(host: &str) -> Option<&'static str> {
    let host = host.to_ascii_lowercase();
    if host.starts_with("bedrock") && host.ends_with(".amazonaws.com") {
        return Some("aws.bedrock");
    }
    let is_of = |end: &str| match end.strip_prefix('.') {
        Some(_) => host.ends_with(end),
        // Vertex AI has the region before the name, with a dash.
        None => host == end || (end.starts_with("aiplatform.") && host.ends_with(&format!("-{end}"))),
    };
    PROVIDERS.iter().find(|(end, _)| is_of(end)).map(|(_, name)| *name)
}

/// What an operation is to the conventions; `None`: it runs no model.
pub fn gen_ai_operation(endpoint: Endpoint) -> Option<&'static str> {
    Some(match endpoint {
        Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages | Endpoint::OllamaGenerate => {
            "chat"
        }
        Endpoint::Completions => "text_completion",
        Endpoint::Embeddings => "embeddings",
        Endpoint::GeminiGenerate
        | Endpoint::AudioSpeech
        | Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations
        | Endpoint::ImagesGenerations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations => "generate_content",
        Endpoint::ThreadRuns => "invoke_agent",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_providers_are_known_and_others_are_not_taken_for_them() {
        for (host, provider) in [
            ("api.openai.com", Some("openai")),
            ("eu.api.openai.com", Some("openai")),
            ("API.OpenAI.com", Some("openai")),
            ("mine.openai.azure.com", Some("azure.ai.openai")),
            ("europe-west1-aiplatform.googleapis.com", Some("gcp.vertex_ai")),
            ("aiplatform.googleapis.com", Some("gcp.vertex_ai")),
            ("bedrock-runtime.eu-central-1.amazonaws.com", Some("aws.bedrock")),
            ("api.openai.com.example", None),
            ("notapi.openai.com", None),
            ("evil-api.x.ai", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(provider_of_host(host), provider, "{host}");
        }
    }
}
