//! Measurements by model: the families of OpenTelemetry's conventions for generative AI, and what they lack.

use std::collections::BTreeMap;

use super::{OTHER, Scraped, constant, name, provider};
use crate::{
    openai::FinishReason,
    telemetry::metrics::{
        exemplar::Exemplars,
        exposition::{Exposition, MetricKind},
        histogram::Total,
        measures::ModelMeasures,
        models::{MAX_MODELS, ModelKey},
        sample::{RequestResult, Tokens},
        scale::Scale,
    },
};

use MetricKind::{Counter, Gauge, Histogram};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    requests(out, scraped);
    tokens(out, scraped);
    costs(out, scraped);
    finish_reasons(out, scraped);
    durations(out, scraped);
    first_tokens(out, scraped);
    output_tokens(out, scraped);
    out.family("sluicegate_models_tracked", Gauge, "Models that have series of their own.");
    out.value(&[], scraped.gateway.models.len());
    out.family("sluicegate_models_tracked_max", Gauge, "Most models that have series of their own.");
    out.value(&[], MAX_MODELS);
}

fn requests(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_model_requests",
        Counter,
        "Requests that an upstream was asked for, by model and result: ok, limited (429), rejected (another 4xx), failed or left (the client left).",
    );
    let mut sums = BTreeMap::<(&str, &str), [u64; RequestResult::ALL.len()]>::new();
    for (key, measures) in &scraped.counts.models {
        let sum = sums.entry((name(&key.model), name(&key.upstream))).or_default();
        sum.iter_mut().zip(measures.results).for_each(|(sum, more)| *sum += more);
    }
    for ((model, upstream), counts) in sums {
        for (result, count) in RequestResult::ALL.into_iter().zip(counts) {
            out.value(&[("model", model), ("upstream", upstream), ("result", result.as_str())], count);
        }
    }
}

fn tokens(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_model_tokens",
        Counter,
        "Tokens by model, as reported by the upstream, by type. cached_input and cache_write are part of input, and reasoning is part of output.",
    );
    let mut sums = BTreeMap::<(&str, &str), Tokens>::new();
    for (key, measures) in scraped.counts.models.iter().filter(|(_, measures)| !measures.tokens.is_empty()) {
        sums.entry((name(&key.model), name(&key.upstream))).or_default().merge(&measures.tokens);
    }
    for ((model, upstream), tokens) in sums {
        for (kind, count) in tokens.by_type() {
            out.value(&[("model", model), ("upstream", upstream), ("gen_ai_token_type", kind)], count);
        }
    }
}

fn costs(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_model_cost",
        Counter,
        "Cost of requests by model, in the currency of the label, by whether the upstream reported the tokens or the gateway estimated them.",
    );
    for ([model, upstream, currency], costs) in &scraped.counts.model_costs {
        for (usage, amount) in costs.by_usage() {
            let labels = [
                ("model", name(model)),
                ("upstream", name(upstream)),
                ("currency", name(currency)),
                ("usage", usage),
            ];
            out.value(&labels, amount);
        }
    }
}

fn finish_reasons(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_finish_reasons",
        Counter,
        "Responses by model and the reason why the model stopped.",
    );
    let mut sums = BTreeMap::<(&str, usize), u64>::new();
    for (key, measures) in &scraped.counts.models {
        for (index, count) in measures.finish_reasons.iter().enumerate().filter(|(_, count)| **count > 0) {
            *sums.entry((name(&key.model), index)).or_default() += count;
        }
    }
    for ((model, index), count) in sums {
        let reason = FinishReason::ALL.get(index).map_or(OTHER, |reason| reason.as_str());
        out.value(&[("model", model), ("reason", reason)], count);
    }
}

fn durations(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "gen_ai_server_request_duration_seconds",
        Histogram,
        "Time from the request to the end of the response, with all attempts; error_type is there if it failed.",
    );
    for (key, measures) in &scraped.counts.models {
        histogram(
            out,
            scraped,
            ModelHistogram {
                key,
                error: None,
                scale: Scale::MODEL_DURATION,
                total: &measures.duration,
                exemplars: None,
            },
        );
        for (error, total) in &measures.errors {
            histogram(
                out,
                scraped,
                ModelHistogram {
                    key,
                    error: Some(error),
                    scale: Scale::MODEL_DURATION,
                    total,
                    exemplars: None,
                },
            );
        }
    }
}

fn first_tokens(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "gen_ai_server_time_to_first_token_seconds",
        Histogram,
        "Time from the request to the first content of a streamed response, with all attempts.",
    );
    each(out, scraped, |key, measures| ModelHistogram {
        key,
        error: None,
        scale: Scale::FIRST_TOKEN,
        total: &measures.first_token,
        exemplars: Some(&measures.exemplars),
    });
}

fn output_tokens(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "gen_ai_server_time_per_output_token_seconds",
        Histogram,
        "Time per output token after the first one, of streams whose upstream reported its tokens.",
    );
    each(out, scraped, |key, measures| ModelHistogram {
        key,
        error: None,
        scale: Scale::OUTPUT_TOKEN,
        total: &measures.per_token,
        exemplars: None,
    });
}

/// A histogram of one combination.
#[derive(Clone, Copy)]
struct ModelHistogram<'s> {
    key: &'s ModelKey,
    error: Option<&'static str>,
    scale: Scale,
    total: &'s Total,
    exemplars: Option<&'s Exemplars>,
}

fn each<'s>(
    out: &mut Exposition,
    scraped: &'s Scraped,
    part: impl Fn(&'s ModelKey, &'s ModelMeasures) -> ModelHistogram<'s>,
) {
    for (key, measures) in &scraped.counts.models {
        histogram(out, scraped, part(key, measures));
    }
}

fn histogram(out: &mut Exposition, scraped: &Scraped, part: ModelHistogram<'_>) {
    if part.total.count() == 0 {
        return;
    }
    let upstream = name(&part.key.upstream);
    let mut labels = vec![
        ("gen_ai_operation_name", constant(part.key.operation)),
        ("gen_ai_provider_name", provider(&scraped.snapshot, upstream)),
        ("gen_ai_request_model", name(&part.key.model)),
        ("upstream", upstream),
    ];
    labels.extend(part.error.map(|error| ("error_type", error)));
    out.histogram_with(&labels, part.scale, part.total, part.exemplars);
}
