//! `[pricing]`

use std::{collections::BTreeMap, sync::Arc};

use super::model::Model;
use crate::{
    config::{
        declare::{
            Context, Declared as _, Keys as _, Kind, ParseAs, Shape, choice, count, described, parse_as,
            table,
        },
        problem::{Complaint, complaint},
        reader::{Node, Table},
        split::is_split,
    },
    money::TokenPrice,
};

/// The most tiers of one model.
const MOST_TIERS: usize = 16;

/// The longest name of a currency, in characters.
const LONGEST_CURRENCY: usize = 16;

const PRICE_HELP: &str = r#"write the price of a million tokens as text, for example "2.50""#;

table! {
    /// `[pricing]`: what tokens cost.
    #[derive(Debug, Clone)]
    pub struct Pricing(table, context) {
        currency: Arc<str> = parse_as(|| Shape::Text("name of a currency"), currency).written_as("\"USD\"").or("USD".into()),
            "Currency of all prices and costs. A name only: nothing is converted.",
            { since: "0.2.0" };
        unknown: UnknownPrice = choice(UNKNOWN).or(UnknownPrice::Warn),
            "What happens to a request for a model without a price, where a limit on cost applies to it: it is forwarded and counts as nothing \
             (\"warn\"), or is refused with the code `model_without_price` (\"refuse\"). Models of the file that have no price are reported at start \
             and by `sluicegate check`.",
            { since: "0.2.0" };
        model = described(Shape::Named(ModelPrices::keys())).required(),
            "Prices of the models, by name; a trailing `*` matches any rest of a name. An exact name wins over the longest beginning. The name is that \
             of the model that answered: as the response has it, or as the upstream was asked for it. Where neither has a price, it is \
             the name of the `[model]` table, or the name in the request.",
            { shipped: r#"{ "gpt-4o*" = { input = "2.50", cached_input = "1.25", output = "10.00" } }"#,
              example: &[r#"{ "gpt-4o*" = { input = "2.50", cached_input = "1.25", output = "10.00" } }"#], since: "0.2.0" };
    }
    derived {
        /// Prices by the name of the model, or by the beginning of names and `*`; at least one.
        models: BTreeMap<Arc<str>, ModelPrices> = models(table, context);
    }
}

table! {
    /// `[pricing.model.NAME]`: what the tokens of a model cost, per million.
    #[derive(Debug, Clone, Default)]
    pub struct ModelPrices(table, context) {
        input: Option<TokenPrice> = price().optional(),
            "Price of a million tokens of input, as text.",
            { default: "required, unless `output` is set; then 0", since: "0.2.0" };
        cached_input: Option<TokenPrice> = price().optional(),
            "Input that was read from the provider's cache.", { default: "as `input`", since: "0.2.0" };
        cache_write: Option<TokenPrice> = price().optional(),
            "Input that was written to the provider's cache.", { default: "as `input`", since: "0.2.0" };
        cache_write_1h: Option<TokenPrice> = price().optional(),
            "Of that, input that the cache keeps for an hour (Anthropic).", { default: "as `cache_write`", since: "0.2.0" };
        output: Option<TokenPrice> = price().optional(),
            "Price of a million tokens of output.",
            { default: "required, unless `input` is set; then 0", since: "0.2.0" };
        reasoning: Option<TokenPrice> = price().optional(),
            "Output that is reasoning.", { default: "as `output`", since: "0.2.0" };
        audio_input: Option<TokenPrice> = price().optional(),
            "Input that is audio.", { default: "as `input`", since: "0.2.0" };
        audio_output: Option<TokenPrice> = price().optional(),
            "Output that is audio.", { default: "as `output`", since: "0.2.0" };
        tiers = described(Shape::List(Box::new(Shape::Table(PriceTier::keys())))),
            "Prices of requests with a long input. All tokens of a request have the prices of the highest tier that its input is in. A \
             price that a tier does not have is the model's own.",
            { default: "none", example: &[r#"[{ above = 200_000, input = "5.00", output = "15.00" }]"#], since: "0.2.0" };
    }
    derived {
        /// Prices of requests with a long input, no two for the same length.
        tiers: Vec<PriceTier> = Some(tiers(table, context));
    }
    check { has_prices(table) }
}

table! {
    /// One of the `tiers` of a model.
    #[derive(Debug, Clone)]
    pub struct PriceTier(table, context) {
        above: u64 = count::<u64>(1..=1_000_000_000_000).required("for example: above = 200_000"),
            "The tier is for requests whose input has more tokens than this, those of the cache included.";
        input: Option<TokenPrice> = price().optional(), "Input.", { default: "the model's own" };
        cached_input: Option<TokenPrice> = price().optional(), "Input from the cache.", { default: "the model's own" };
        cache_write: Option<TokenPrice> = price().optional(), "Input to the cache.", { default: "the model's own" };
        cache_write_1h: Option<TokenPrice> = price().optional(),
            "Of that, input that is kept for an hour.", { default: "the model's own" };
        output: Option<TokenPrice> = price().optional(), "Output.", { default: "the model's own" };
        reasoning: Option<TokenPrice> = price().optional(), "Reasoning.", { default: "the model's own" };
        audio_input: Option<TokenPrice> = price().optional(), "Audio in the input.", { default: "the model's own" };
        audio_output: Option<TokenPrice> = price().optional(), "Audio in the output.", { default: "the model's own" };
    }
}

const UNKNOWN: &[(&str, UnknownPrice)] = &[("warn", UnknownPrice::Warn), ("refuse", UnknownPrice::Refuse)];

/// What happens to a request for a model without a price, where a limit on cost applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPrice {
    /// It is forwarded, and counts as nothing.
    Warn,
    /// It is refused.
    Refuse,
}

impl Pricing {
    /// Whether a model has a price, by its own name or by a beginning of it.
    pub(crate) fn covers(&self, model: &str) -> bool {
        self.models.keys().any(|name| match name.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => **name == *model,
        })
    }
}

fn price() -> ParseAs<TokenPrice> {
    parse_as(
        || Shape::Text("price of a million tokens, as decimal text"),
        |node, _| {
            let text = node.value.as_str().or_else(|| node.mistyped("a price, as a string", PRICE_HELP))?;
            node.accept(
                TokenPrice::per_million(text).map_err(|error| complaint(error.to_string(), PRICE_HELP)),
            )
        },
    )
}

fn currency(node: &Node<'_>, _: &Context<'_>) -> Option<Arc<str>> {
    node.parse(|text| {
        let is_sound = (1..=LONGEST_CURRENCY).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_sound { Ok(Arc::from(text)) } else { Err(not_a_currency()) }
    })
}

fn not_a_currency() -> Complaint {
    complaint("is not the name of a currency", r#"write 1 to 16 letters and digits, for example "USD""#)
}

fn models(table: &Table<'_>, context: &Context<'_>) -> Option<BTreeMap<Arc<str>, ModelPrices>> {
    let help = r#"add a table such as [pricing.model."gpt-4o*"] with `input` and `output`"#;
    let node = table.required("model", help)?;
    let entries = node.entries()?;
    if entries.is_empty() {
        node.fail(complaint("is empty", help));
    }
    let mut models = BTreeMap::new();
    for (name, node) in entries {
        if is_split("pricing.model", name, &node, ModelPrices::NAMES) {
            continue;
        }
        node.accept(Model::check_name(name));
        let read = node.table(ModelPrices::NAMES).and_then(|table| ModelPrices::read(&table, context));
        models.extend(read.map(|read| (Arc::from(name), read)));
    }
    Some(models)
}

fn tiers(table: &Table<'_>, context: &Context<'_>) -> Vec<PriceTier> {
    let Some(list) = table.get("tiers") else { return Vec::new() };
    let items = list.some_items("write one table for each tier, or leave the key out").unwrap_or_default();
    if items.len() > MOST_TIERS {
        list.fail(complaint(format!("has more than {MOST_TIERS} tiers"), "leave some out"));
    }
    let mut tiers: Vec<PriceTier> = Vec::new();
    for node in items {
        let read = node.table(PriceTier::NAMES).and_then(|table| PriceTier::read(&table, context));
        let Some(tier) = read else { continue };
        if tiers.iter().any(|other| other.above == tier.above) {
            node.fail(complaint(
                "is for the same input as another tier",
                "give them different values of `above`",
            ));
        }
        tiers.push(tier);
    }
    tiers
}

/// A price that is forgotten makes tokens free, which nobody notices.
fn has_prices(table: &Table<'_>) {
    let free = |class: &str| complaint(format!("has no `{class}`: {class} of this model is free"), FREE);
    match (table.get("input").is_some(), table.get("output").is_some()) {
        (true, true) => {}
        (true, false) => table.warn(free("output")),
        (false, true) => table.warn(free("input")),
        (false, false) => {
            table.fail(complaint("has no prices", r#"for example: input = "2.50", output = "10.00""#));
        }
    }
}

const FREE: &str = r#"add the price; write "0" where there is none to pay"#;
