//! Whose key an unknown key is, by its form.

/// The form of a provider's keys, and the provider. The first one that fits counts.
///
/// Sources: the providers' documentation of their keys, and the patterns by which GitHub's secret scanning and gitleaks recognise them.
const FORMS: [(&str, &str); 13] = [
    ("sk-ant-", "Anthropic"),
    ("sk-or-", "OpenRouter"),
    ("sk-proj-", "OpenAI"),
    ("sk-svcacct-", "OpenAI"),
    ("sk-admin-", "OpenAI"),
    ("gsk_", "Groq"),
    ("xai-", "xAI"),
    ("AIza", "Google"),
    ("hf_", "Hugging Face"),
    ("pplx-", "Perplexity"),
    ("fw_", "Fireworks AI"),
    ("nvapi-", "NVIDIA"),
    ("csk-", "Cerebras"),
];

/// Stands in every key of OpenAI: "OpenAI" in base64.
const OPENAI_MARK: &[u8] = b"T3BlbkFJ";

/// The provider whose keys have the form of `key`, if one is known. This gateway's own keys (`sk-sg-`) have the form of none.
pub fn provider_of_key(key: &[u8]) -> Option<&'static str> {
    let known = FORMS.iter().find(|(prefix, _)| key.starts_with(prefix.as_bytes()));
    let of_openai = || {
        let has_mark =
            key.starts_with(b"sk-") && key.windows(OPENAI_MARK.len()).any(|part| part == OPENAI_MARK);
        has_mark.then_some("OpenAI")
    };
    known.map(|(_, provider)| *provider).or_else(of_openai)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_key_is_recognised_and_others_are_not() {
        for (key, provider) in [
            ("sk-ant-api03-abc", Some("Anthropic")),
            ("sk-or-v1-abc", Some("OpenRouter")),
            ("sk-proj-abc", Some("OpenAI")),
            ("sk-abcT3BlbkFJdef", Some("OpenAI")),
            ("gsk_abc", Some("Groq")),
            ("AIzaSyabc", Some("Google")),
            ("sk-sg-abc", None),
            ("sk-abc", None),
            ("", None),
        ] {
            assert_eq!(provider_of_key(key.as_bytes()), provider, "{key}");
        }
    }
}
