//! `[model.NAME]` tables, and the keys of a route that concern them.

use std::sync::Arc;

use super::{one_problem, read, sound, with};
use crate::config::{Choice, Config, ModelList, ModelTables, ModelUpstreams};

const ROUTE: &str = "upstreams = [\"openai\"]";
const PREFER: &str = "upstreams = [\"openai\"]\nmodel_tables = \"prefer\"";

fn with_models(route: &str, models: &str) -> String {
    format!("{}\n{models}", with(ROUTE, route))
}

fn warned(config: &Config) -> Vec<String> {
    config.warnings.iter().map(|one| format!("{}: {} ({})", one.path, one.message, one.help)).collect()
}

#[test]
fn a_table_has_the_name_of_a_model_or_of_the_beginning_of_many() {
    let text = with_models(
        PREFER,
        r#"
        [model."gpt-4o"]
        upstreams = ["openai", { upstream = "openai", model = "gpt-4o-mini" }]
        aliases = ["gpt-4", "org/model:free"]
        [model."meta-llama/Llama-3.3-70B-Instruct-Turbo"]
        upstreams = ["openai"]
        [model."gpt-*"]
        upstreams = [{ upstream = "openai", model = "gpt-5" }]
        aliases = ["default"]
        [model."*"]
        upstreams = ["openai"]
        "#,
    );
    let config = sound(&text);
    assert_eq!(config.models.len(), 4);
    let table = &config.models["gpt-4o"];
    let choice = |model: Option<&str>| Choice { upstream: "openai".into(), model: model.map(Into::into) };
    assert_eq!(table.upstreams, [choice(None), choice(Some("gpt-4o-mini"))]);
    assert_eq!(table.aliases, [Arc::<str>::from("gpt-4"), Arc::<str>::from("org/model:free")]);
    assert_eq!(warned(&config), Vec::<String>::new());
    let route = &config.routes["openai"];
    assert_eq!(route.model_tables, ModelTables::Prefer);
    assert_eq!((route.model_upstreams, route.model_list), (ModelUpstreams::Listed, ModelList::Upstream));
    assert!(config.redacted["model"]["gpt-4o"]["aliases"][1] == "org/model:free", "{}", config.redacted);
}

#[test]
fn names_that_stand_for_two_tables_are_mistakes_with_both_places() {
    let tables = |one: &str, other: &str| {
        with_models(
            PREFER,
            &format!(
                "[model.a]\nupstreams = [\"openai\"]\naliases = [{one}]\n[model.b]\nupstreams = [\"openai\"]\naliases = [{other}]"
            ),
        )
    };
    let help = "(each name may stand for one table only: remove one of the two)";
    for (one, other, expected) in [
        ("\"x\"", "\"x\"", "model.b.aliases[0]: `x` is the name of model.a.aliases[0] already"),
        ("\"b\"", "", "model.a.aliases[0]: `b` is the name of model.b already"),
        ("", "\"y\", \"b\"", "model.b.aliases[1]: `b` is the name of model.b already"),
    ] {
        assert_eq!(one_problem(&tables(one, other)), format!("{expected} {help}"));
    }
    assert!(
        one_problem(&tables("\"x\", \"x\"", "")).starts_with("model.a.aliases[1]: is in this list twice")
    );
}

/// All at once, each with its place.
#[test]
fn mistakes_in_a_table_are_told_together() {
    let text = with_models(
        PREFER,
        r#"
        [model."a*b"]
        upstreams = ["openai"]
        [model."gpt-*"]
        upstreams = ["openai"]
        aliases = ["default"]
        [model.c]
        upstreams = ["opnai", { upstream = "openai", modle = "x" }]
        aliases = ["d*"]
        weight = 1
        [model.e]
        upstreams = []
        [model.f]
        "#,
    );
    let problems = read(&text).expect_err("mistakes");
    let told: Vec<String> = problems.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
    let expected = [
        "model.a*b: is not the name of a model",
        "model.gpt-*.aliases: stand for no model: the name of the table ends with `*`",
        "model.c.upstreams[0]: no upstream `opnai` is defined",
        "model.c.upstreams[1].modle: unknown key",
        "model.c.aliases[0]: is not the name of a model",
        "model.c.weight: unknown key",
        "model.e.upstreams: is an empty list",
        "model.f.upstreams: is missing",
    ];
    assert_eq!(told, expected, "{problems:#?}");
}

#[test]
fn a_table_that_no_route_uses_is_a_warning() {
    let table = "[model.a]\nupstreams = [\"other\"]\n[upstream.other]\nurl = \"https://b\"\nauth = \"none\"";
    let unused = "upstream.other: no route uses this upstream";
    let config = sound(&with_models(ROUTE, table));
    let [one, other] = &warned(&config)[..] else { panic!("{:?}", warned(&config)) };
    assert!(one.starts_with("model.a: no route uses this table (set model_tables"), "{one}");
    assert!(other.starts_with(unused), "{other}");
    let config = sound(&with_models(PREFER, table));
    let [one, other] = &warned(&config)[..] else { panic!("{:?}", warned(&config)) };
    assert!(one.contains("model_upstreams = \"all\"") && other.starts_with(unused), "{one}");
    let all = format!("{PREFER}\nmodel_upstreams = \"all\"");
    assert_eq!(warned(&sound(&with_models(&all, table))), Vec::<String>::new());
}

#[test]
fn what_needs_the_tables_says_so() {
    let list = one_problem(&with(ROUTE, &format!("{ROUTE}\nmodel_list = \"configured\"")));
    assert!(
        list.starts_with("route.openai.model_list: has no models to list: `model_tables` is \"off\""),
        "{list}"
    );
    let config = sound(&with(ROUTE, &format!("{ROUTE}\nmodel_upstreams = \"all\"")));
    assert!(
        warned(&config)[0].starts_with("route.openai.model_upstreams: has no effect"),
        "{:?}",
        warned(&config)
    );
}

#[test]
fn an_alias_in_a_clients_models_is_warned_about() {
    let tables = "[model.\"gpt-4o\"]\nupstreams = [\"openai\"]\naliases = [\"big\"]\n";
    let text = with_models(PREFER, tables);
    let of = |models: &str| {
        warned(&sound(&text.replace("[client.team-a]", &format!("[client.team-a]\nmodels = {models}"))))
    };
    let warnings = of("[\"big\", \"gpt-4o\"]");
    assert_eq!(
        warnings,
        [
            "client.team-a.models[0]: `big` is an alias of [model.gpt-4o] (write the name of the table: a client's `models` are compared with it)"
        ]
    );
    assert_eq!(of("[\"b*\", \"gpt-4o\"]"), Vec::<String>::new());
}
