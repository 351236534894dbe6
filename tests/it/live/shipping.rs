//! The field list of docs/how-to/log-shipping.md fits the lines that the gateway writes.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value};
use sluicegate::simulator::{Cut, Head, Script, Step};

use crate::harness::{CHAT, Gateway, GatewayToml, Http, chat, post, request, safely, send, simulator, whole};

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The properties of the index template.
fn mapping() -> Map<String, Value> {
    let page = page("docs/how-to/log-shipping.md");
    let json = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let template: Value = serde_json::from_str(json).unwrap();
    template["template"]["mappings"]["properties"].as_object().unwrap().clone()
}

/// Whether Elasticsearch takes the value for a field of this type as it is meant.
fn fits(kind: &str, value: &Value) -> bool {
    match kind {
        "keyword" | "text" => value.is_string(),
        "boolean" => value.is_boolean(),
        "short" => value.as_i64().is_some_and(|number| i16::try_from(number).is_ok()),
        "integer" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "long" => value.is_i64() || value.is_u64(),
        // Elasticsearch reads a number in a text too (`coerce`).
        "double" => value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()),
        "flattened" => value.as_object().is_some_and(|members| members.values().all(Value::is_string)),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "date" => value.as_str().is_some_and(|text| text.ends_with('Z') && text.len() == 24),
        _ => false,
    }
}

/// The members of an object that are not in the list, or not as it says.
fn misfits(properties: &Map<String, Value>, object: &Map<String, Value>, open: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in object {
        let Some(field) = properties.get(name) else {
            if !open {
                found.push(format!("{name} is not listed"));
            }
            continue;
        };
        match value.as_array() {
            Some(items) if field["type"] == "nested" => {
                let inner = field["properties"].as_object().unwrap();
                found.extend(items.iter().flat_map(|item| misfits(inner, item.as_object().unwrap(), false)));
            }
            _ if !fits(field["type"].as_str().unwrap(), value) => {
                found.push(format!("{name}: {value} is no {}", field["type"]));
            }
            _ => {}
        }
    }
    found
}

/// What of an access line is not in the list, or not as it says.
pub fn misfits_of(line: &Value) -> Vec<String> {
    misfits(&mapping(), line.as_object().unwrap(), false)
}

/// The names in the first column of the table under a heading of docs/log.md.
fn column(heading: &str) -> BTreeSet<String> {
    let log = page("docs/log.md");
    let section = log.split(&format!("\n{heading}\n")).nth(1).unwrap().split("\n#").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells
        .flat_map(|cell| cell.split(['`', ',', ' ']).filter(|name| !name.is_empty()))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn real_lines_fit_the_list_of_fields() {
    const BUSY: &str = r#"{"error":{"message":"busy","type":"server_error","code":"overloaded"}}"#;
    let upstream = simulator().await;
    let toml =
        GatewayToml::before(&upstream.url(), "retry = { backoff = \"20ms\" }").more("[log]\nstate = \"1s\"");
    let gateway = Gateway::start(&toml);
    assert!(chat(gateway.address(), Http::One).await.whole);
    let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, BUSY.len());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(BUSY.into())]));
    assert!(chat(gateway.address(), Http::One).await.whole, "after a second attempt");
    let body = Step::Send("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n".into());
    upstream.queue(Script::new(vec![Step::Head(Head::event_stream()), body, Step::Cut(Cut::Reset)]));
    chat(gateway.address(), Http::One).await;
    let stranger =
        request(gateway.address(), Http::One, "POST", "/v1/chat/completions").body(whole(CHAT)).unwrap();
    send(gateway.address(), Http::One, stranger).await;
    let named = post(gateway.address(), Http::One, "/v1/embeddings").header("x-request-id", "mine");
    send(gateway.address(), Http::One, named.body(whole(r#"{"model":"m","input":"x"}"#)).unwrap()).await;
    gateway.log.line(5).await;
    safely(async {
        while !gateway.log.text().contains("\"kind\":\"state\"") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    let properties = mapping();
    let mut kinds = BTreeSet::new();
    for line in gateway.log.text().lines() {
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let found = misfits(&properties, &object, kind == "message");
        assert!(found.is_empty(), "{found:#?}\n{line}");
        kinds.insert(kind);
    }
    assert!(kinds.contains("access") && kinds.contains("state"), "{kinds:?}");
}

#[test]
fn the_list_has_the_fields_of_the_reference() {
    let properties = mapping();
    let mut expected = column("### Fields");
    expected.extend(column("## Lines of state"));
    expected.extend(["level", "message"].map(str::to_owned));
    let listed: BTreeSet<String> = properties.keys().cloned().collect();
    let missing: Vec<_> = expected.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/how-to/log-shipping.md lacks {missing:?}");
    let attempts = properties["attempts"]["properties"].as_object().unwrap();
    let listed: BTreeSet<String> = attempts.keys().cloned().collect();
    let missing: Vec<String> = column("### Attempts").difference(&listed).cloned().collect();
    assert!(missing.is_empty(), "docs/how-to/log-shipping.md lacks {missing:?} of attempts");
}

#[test]
fn labels_are_fields_with_few_values() {
    let text = page("docs/how-to/log-shipping.md");
    let bounded = ["kind", "level", "who", "phase", "route"];
    let table = text.split("## What becomes a label").nth(1).unwrap().split("\n#").next().unwrap();
    let named: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(named, bounded);
    let fluent = bounded.map(|name| format!("{name}=${name}")).join(", ");
    assert!(text.contains(&format!("labels: job=sluicegate, {fluent}\n")));
    for name in bounded {
        assert!(text.contains(&format!("      {name}: \"{{{{ {name} }}}}\"\n")), "{name}");
    }
}
