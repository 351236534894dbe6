//! What some services want in addition to the conventions.
//!
//! Sources: Langfuse docs, "OpenTelemetry (OTEL) for LLM Observability", property mapping; OpenInference semantic conventions, "LLM Spans" and "Semantic
//! Conventions"; Datadog docs, "OpenTelemetry Instrumentation" of LLM Observability, which needs nothing but a header.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};

use super::{AttemptView, TraceView, proto::Attributes, span::units, view::cut};
use crate::{config::Preset, openai::Usage, telemetry::clock};

/// The headers that a service wants on each request, unless the operator has set them.
pub fn headers(preset: Option<Preset>) -> Option<(HeaderName, HeaderValue)> {
    match preset {
        Some(Preset::Langfuse) => {
            Some((HeaderName::from_static("x-langfuse-ingestion-version"), HeaderValue::from_static("4")))
        }
        Some(Preset::Datadog) => {
            Some((HeaderName::from_static("dd-otlp-source"), HeaderValue::from_static("llmobs")))
        }
        Some(Preset::Phoenix) | None => None,
    }
}

pub(super) fn of_exchange(attributes: &mut Attributes<'_>, preset: Option<Preset>, view: &TraceView<'_>) {
    match preset {
        Some(Preset::Langfuse) => {
            attributes.text("langfuse.observation.type", "span");
            attributes.maybe_text("user.id", view.caller);
            // Other attributes of the root cannot be filtered by.
            attributes.maybe_text("langfuse.trace.metadata.route", view.route);
            attributes.maybe_text("langfuse.trace.metadata.group", view.group);
            for (name, value) in view.tags {
                attributes.text_below("langfuse.trace.metadata.tag_", name, value);
            }
            attributes.text("langfuse.trace.metadata.request_id", view.request_id);
        }
        Some(Preset::Phoenix) => {
            attributes.text("openinference.span.kind", "CHAIN");
            attributes.maybe_text("user.id", view.caller);
        }
        Some(Preset::Datadog) | None => {}
    }
}

pub(super) fn of_attempt(
    attributes: &mut Attributes<'_>,
    preset: Option<Preset>,
    view: &TraceView<'_>,
    attempt: &AttemptView<'_>,
) {
    match preset {
        Some(Preset::Langfuse) => langfuse(attributes, view, attempt),
        Some(Preset::Phoenix) => phoenix(attributes, view, attempt),
        Some(Preset::Datadog) | None => {}
    }
}

fn langfuse(attributes: &mut Attributes<'_>, view: &TraceView<'_>, attempt: &AttemptView<'_>) {
    let kind = if view.operation == Some("embeddings") { "embedding" } else { "generation" };
    attributes.text("langfuse.observation.type", kind);
    if !attempt.is_answer {
        return;
    }
    if let Some(first) = attempt.first_token {
        let stamp = clock::stamp(view.time + attempt.start + first);
        attributes.maybe_text("langfuse.observation.completion_start_time", std::str::from_utf8(&stamp).ok());
    }
    if let Some(usage) = view.usage {
        attributes.text("langfuse.observation.usage_details", &usage_details(&usage));
    }
}

/// Tokens in classes of which none is a part of another: Langfuse adds up all classes that it is given, and prices each.
fn usage_details(usage: &Usage) -> String {
    let [cached, written, reasoning] =
        [usage.cached_input, usage.cache_write, usage.reasoning].map(|count| count.unwrap_or(0));
    let plain_input = usage.input.map(|input| input.saturating_sub(cached).saturating_sub(written));
    let plain_output = usage.output.map(|output| output.saturating_sub(reasoning));
    let classes = [
        ("input", plain_input),
        ("input_cached_tokens", usage.cached_input),
        ("input_cache_creation", usage.cache_write),
        ("output", plain_output),
        ("output_reasoning_tokens", usage.reasoning),
    ];
    let mut text = String::from("{");
    for (name, count) in classes {
        let Some(count) = count else { continue };
        let comma = if text.len() > 1 { "," } else { "" };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{comma}\"{name}\":{count}");
    }
    text.push('}');
    text
}

fn phoenix(attributes: &mut Attributes<'_>, view: &TraceView<'_>, attempt: &AttemptView<'_>) {
    let kind = if view.operation == Some("embeddings") { "EMBEDDING" } else { "LLM" };
    attributes.text("openinference.span.kind", kind);
    let provider = attempt.target.and_then(|target| target.provider);
    attributes.maybe_text("llm.provider", provider);
    let answered = view.response_model.filter(|_| attempt.is_answer);
    attributes.maybe_text("llm.model_name", answered.or(attempt.model).or(view.model).map(cut));
    if let Some(usage) = view.usage.filter(|_| attempt.is_answer) {
        attributes.maybe_number("llm.token_count.prompt", usage.input);
        attributes.maybe_number("llm.token_count.completion", usage.output);
        attributes.maybe_number("llm.token_count.total", usage.total);
        attributes.maybe_number("llm.token_count.prompt_details.cache_read", usage.cached_input);
        attributes.maybe_number("llm.token_count.prompt_details.cache_write", usage.cache_write);
        attributes.maybe_number("llm.token_count.completion_details.reasoning", usage.reasoning);
    }
    if let Some(cost) = view.cost.filter(|_| attempt.is_answer) {
        attributes.fraction("llm.cost.total", units(cost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_for_langfuse_add_up_to_the_whole() {
        let usage = Usage {
            input: Some(10),
            cached_input: Some(4),
            output: Some(5),
            reasoning: Some(2),
            ..Usage::default()
        };
        let expected = r#"{"input":6,"input_cached_tokens":4,"output":3,"output_reasoning_tokens":2}"#;
        assert_eq!(usage_details(&usage), expected);
        assert_eq!(usage_details(&Usage::default()), "{}");
    }
}
