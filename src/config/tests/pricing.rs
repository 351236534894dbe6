use super::{SOUND, one_problem, read, sound};
use crate::{
    config::UnknownPrice,
    money::{Money, TokenPrice},
};

fn file(more: &str) -> String {
    format!("{SOUND}\n{more}\n")
}

const PRICES: &str = "[pricing.model.\"gpt-4o*\"]\ninput = \"2.50\"\noutput = \"10\"\n";

fn warnings(text: &str) -> Vec<String> {
    sound(text).warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

#[test]
fn prices_are_read_as_they_are_written() {
    assert!(sound(SOUND).pricing.is_none());
    let pricing = sound(&file(&format!(
        "[pricing]\nunknown = \"refuse\"\n{PRICES}cached_input = \"0.0375\"\ntiers = [{{ above = 200_000, input = \"5\" }}]"
    )))
    .pricing
    .expect("prices");
    assert_eq!((&*pricing.currency, pricing.unknown), ("USD", UnknownPrice::Refuse));
    let model = &pricing.models["gpt-4o*"];
    assert_eq!(model.input, TokenPrice::per_million("2.5").ok());
    assert_eq!(model.cached_input, TokenPrice::per_million("0.0375").ok());
    assert_eq!((model.cache_write, model.tiers.len(), model.tiers[0].above), (None, 1, 200_000));
    let default = sound(&file(PRICES)).pricing.expect("prices");
    assert_eq!(default.unknown, UnknownPrice::Warn);
}

#[test]
fn mistakes_say_what_to_write() {
    for (pricing, message) in [
        ("[pricing]", "pricing.model: is missing"),
        ("[pricing]\nmodel = {}", "is empty"),
        ("[pricing.model.m]", "has no prices"),
        ("[pricing.model.m]\ninput = 2.5\noutput = \"1\"", "must be a price, as a string, not a fraction"),
        ("[pricing.model.m]\ninput = \"2,5\"\noutput = \"1\"", "is not a decimal number"),
        ("[pricing.model.m]\ninput = \"0.0000001\"\noutput = \"1\"", "has more than 6 decimals"),
        ("[pricing.model.m]\ninput = \"99999999999999999999\"\noutput = \"1\"", "is too large to be counted"),
        ("[pricing.model.\"*m\"]\ninput = \"1\"\noutput = \"1\"", "is not the name of a model"),
        ("[pricing.model.gpt-3.5-turbo]\ninput = \"1\"\noutput = \"1\"", "a name with a dot needs quotes"),
        ("[pricing.model.m]\ninput = \"1\"\noutput = \"1\"\nimage = \"1\"", "unknown key"),
        ("[pricing.model.m]\ninput = \"1\"\noutput = \"1\"\ntiers = []", "is an empty list"),
        ("[pricing.model.m]\ninput = \"1\"\noutput = \"1\"\ntiers = [{ input = \"1\" }]", "is missing"),
        (
            "[pricing.model.m]\ninput = \"1\"\noutput = \"1\"\ntiers = [{ above = 1 }, { above = 1 }]",
            "is for the same input as another tier",
        ),
        (
            "[pricing]\ncurrency = \"US Dollar\"\n[pricing.model.m]\ninput = \"1\"\noutput = \"1\"",
            "is not the name of a currency",
        ),
        (
            "[pricing]\nunknown = \"ignore\"\n[pricing.model.m]\ninput = \"1\"\noutput = \"1\"",
            "must be \"warn\" or \"refuse\"",
        ),
    ] {
        let problem = one_problem(&file(pricing));
        assert!(problem.contains(message), "{pricing}: {problem}");
    }
    let several =
        file("[pricing]\ncurrency = \"\"\n[pricing.model.m]\ninput = \"x\"\noutput = 1\n[pricing.model.n]\n");
    let problems = read(&several).expect_err("mistakes");
    let places: Vec<(&str, usize)> = problems.iter().map(|problem| (&*problem.path, problem.line)).collect();
    let line = |text: &str| several.lines().position(|line| line == text).expect(text) + 1;
    assert_eq!(
        places,
        [
            ("pricing.currency", line("currency = \"\"")),
            ("pricing.model.m.input", line("input = \"x\"")),
            ("pricing.model.m.output", line("output = 1")),
            ("pricing.model.n", line("[pricing.model.n]")),
        ]
    );
}

#[test]
fn a_limit_on_cost_has_an_amount_and_needs_prices() {
    let limit = |keys: &str| file(&format!("{PRICES}[limit.month]\n{keys}"));
    let config = sound(&limit("cost = \"500\"\nper = \"month\"\ntimezone = \"Europe/Berlin\""));
    assert_eq!(config.limits["month"].cost, Money::parse("500").ok());
    assert!(sound(&limit("cost = \"0.25\"\nper = \"1h\"\nburst = { cost = \"0.1\" }")).warnings.is_empty());
    for (keys, message) in [
        ("cost = 500\nper = \"month\"", "must be an amount, as a string, not a number"),
        ("cost = \"five\"\nper = \"month\"", "is not a decimal number"),
        ("cost = \"0\"\nper = \"month\"", "must be more than 0"),
        ("cost = \"9000000.1\"\nper = \"month\"", "must be more than 0 and at most 9000000"),
        ("cost = \"1\"", "needs `per`"),
    ] {
        let problem = one_problem(&limit(keys));
        assert!(problem.contains(message), "{keys}: {problem}");
    }
    let problem = one_problem(&file("[limit.month]\ncost = \"500\"\nper = \"month\""));
    assert!(problem.starts_with("limit.month.cost: needs the prices of models"), "{problem}");
}

#[test]
fn models_of_the_file_without_a_price_are_reported_once() {
    let models = r#"
        [model."gpt-4o"]
        upstreams = ["openai"]
        [model."mistral-large"]
        upstreams = ["openai"]
        [model."ours"]
        upstreams = [{ upstream = "openai", model = "gpt-4o-eu" }]
        [model."theirs"]
        upstreams = [{ upstream = "openai", model = "gpt-4o-eu" }, { upstream = "openai", model = "eu" }]
    "#;
    let route = |text: &str| {
        text.replace("upstreams = [\"openai\"]\n[client", "upstreams = [{ upstream = \"openai\", model = \"llama\" }, { upstream = \"openai\", model = \"mistral-large\" }, \"openai\"]\nmodel_tables = \"prefer\"\n[client")
    };
    let text = route(&file(&format!("{models}\n{PRICES}")));
    let found = warnings(&text);
    let places: Vec<&str> = found.iter().filter_map(|warning| warning.split(": ").next()).collect();
    assert_eq!(
        places,
        ["route.openai.upstreams[0].model", "model.mistral-large", "model.theirs"],
        "{found:#?}"
    );
    assert!(found[0].contains("`llama` has no price: its requests have no cost"), "{found:#?}");
    let refusing = text.replace("[pricing.model", "[pricing]\nunknown = \"refuse\"\n[pricing.model");
    assert!(warnings(&refusing)[0].contains("are refused where a limit on cost applies"));
    assert_eq!(warnings(&text.replace("gpt-4o*", "*")), Vec::<String>::new());
}

#[test]
fn a_price_that_is_forgotten_is_reported() {
    let found = warnings(&file("[pricing.model.m]\ninput = \"1\""));
    assert_eq!(found, ["pricing.model.m: has no `output`: output of this model is free"]);
    assert!(warnings(&file("[pricing.model.m]\ninput = \"1\"\noutput = \"0\"")).is_empty());
}
