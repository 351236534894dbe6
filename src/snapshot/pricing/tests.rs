use std::path::Path;

use super::*;
use crate::{
    config::{Env, parse},
    limit::PricedTokens,
    money::Money,
};

/// The prices of a file with these tables in `[pricing.model]`.
fn pricing(tables: &str) -> Arc<Pricing> {
    let text = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:8080"
        [upstream.one]
        url = "https://127.0.0.1:1"
        auth = "none"
        [route.any]
        path = "/v1"
        upstreams = ["one"]
        access = "open"
        model_tables = "prefer"
        [model."gpt-4o"]
        upstreams = ["one"]
        aliases = ["default", "claude-special"]
        [pricing]
        {tables}
        "#
    );
    let none = |_: &str| None;
    let config =
        parse(&text, &Env::new(Path::new("."), &none)).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Pricing::compile(&config).unwrap()
}

/// Each price is a number of its own, so that the cost of a million tokens says whose it is.
const MODELS: &str = r#"
    [pricing.model."*"]
    input = "1"
    output = "0"
    [pricing.model."gpt-4o*"]
    input = "2"
    output = "0"
    [pricing.model."gpt-4o-mini*"]
    input = "3"
    output = "0"
    [pricing.model."gpt-4o"]
    input = "4"
    output = "0"
    [pricing.model."claude-special"]
    input = "5"
    output = "0"
"#;

fn of(pricing: &Pricing, names: &ModelNames<'_>) -> Option<String> {
    let tokens = PricedTokens { input: 1_000_000, ..PricedTokens::default() };
    pricing.of(names).map(|list| list.cost(&tokens).to_string())
}

fn asked(name: &str) -> ModelNames<'_> {
    ModelNames { asked: Some(name), ..ModelNames::default() }
}

#[test]
fn a_whole_name_wins_over_the_longest_beginning_and_an_alias_has_the_price_of_its_table() {
    let pricing = pricing(MODELS);
    for (name, price) in [
        ("gpt-4o", "4"),
        ("gpt-4o-2024-11-20", "2"),
        ("gpt-4o-mini", "3"),
        ("gpt-4o-mini-2024-07-18", "3"),
        ("gpt-4", "1"),
        ("default", "4"),
        // A price of its own.
        ("claude-special", "5"),
        ("", "1"),
    ] {
        assert_eq!(of(&pricing, &asked(name)).as_deref(), Some(price), "{name}");
    }
    assert_eq!(of(&pricing, &ModelNames::default()), None);
}

#[test]
fn the_model_that_answered_is_charged() {
    let pricing = pricing(&MODELS.replace("\"*\"", "\"llama*\""));
    for (answered, sent, table, asked, price) in [
        // The dated name of the response fits a beginning, the one that was sent fits whole.
        (Some("gpt-4o-2024-11-20"), Some("gpt-4o"), None, Some("gpt-4o"), Some("4")),
        // A router has chosen.
        (Some("gpt-4o-mini-2024-07-18"), Some("openrouter/auto"), None, Some("openrouter/auto"), Some("3")),
        (Some("gpt-4o-mini"), Some("gpt-4o-latest"), None, Some("gpt-4o-latest"), Some("3")),
        // A fallback to another model.
        (None, Some("llama-3"), None, Some("gpt-4o"), Some("1")),
        (Some("llama-3-70b"), Some("llama-3"), Some("gpt-4o"), Some("gpt-4o"), Some("1")),
        // A deployment, whose name says nothing.
        (None, Some("prod-eu"), Some("gpt-4o"), Some("default"), Some("4")),
        (Some("prod"), Some("prod-eu"), None, Some("gpt-4o-mini"), Some("3")),
        (Some("prod"), Some("prod-eu"), None, Some("mistral"), None),
    ] {
        let names = ModelNames { answered, sent, table, asked };
        assert_eq!(of(&pricing, &names).as_deref(), price, "{names:?}");
    }
}

#[test]
fn a_class_without_a_price_has_that_of_the_class_that_it_belongs_to() {
    let one = |table: &str| {
        let pricing = pricing(&format!("[pricing.model.m]\n{table}"));
        let list = pricing.of(&asked("m")).unwrap().clone();
        move |tokens: PricedTokens| list.cost(&tokens)
    };
    let of = |change: fn(&mut PricedTokens)| {
        let mut tokens = PricedTokens::default();
        change(&mut tokens);
        tokens
    };
    let units = |units: u64| Money::from_nanos(units * 1_000_000_000);
    let two = one("input = \"2\"\noutput = \"3\"");
    assert_eq!(two(of(|tokens| tokens.input = 1_000_000)), units(2));
    assert_eq!(two(of(|tokens| tokens.cached_input = 1_000_000)), units(2));
    assert_eq!(two(of(|tokens| tokens.cache_write = 1_000_000)), units(2));
    assert_eq!(two(of(|tokens| tokens.cache_write_1h = 1_000_000)), units(2));
    assert_eq!(two(of(|tokens| tokens.audio_input = 1_000_000)), units(2));
    assert_eq!(two(of(|tokens| tokens.output = 1_000_000)), units(3));
    assert_eq!(two(of(|tokens| tokens.reasoning = 1_000_000)), units(3));
    assert_eq!(two(of(|tokens| tokens.audio_output = 1_000_000)), units(3));
    let cache = one("input = \"2\"\noutput = \"3\"\ncache_write = \"4\"\ncached_input = \"0\"");
    assert_eq!(cache(of(|tokens| tokens.cache_write_1h = 1_000_000)), units(4));
    assert_eq!(cache(of(|tokens| tokens.cached_input = 1_000_000)), units(0));
}

#[test]
fn a_tier_has_the_models_own_price_where_it_has_none() {
    let pricing = pricing(
        r#"[pricing.model.m]
        input = "1"
        output = "2"
        cached_input = "0.5"
        tiers = [{ above = 10, input = "10" }, { above = 5, input = "5", output = "6" }]"#,
    );
    let list = pricing.of(&asked("m")).unwrap();
    let cost = |input: u64, cached_input: u64, output: u64| {
        list.cost(&PricedTokens { input, cached_input, output, ..PricedTokens::default() }).nanos()
    };
    assert_eq!(cost(5, 0, 1), 7_000);
    assert_eq!(cost(6, 0, 1), 36_000);
    assert_eq!(cost(11, 0, 1), 112_000, "the output of the highest tier is the model's own");
    assert_eq!(cost(10, 1, 0), 100_500, "and so is its cached input; cached input counts for the tier");
}
