//! What is shipped, without running it: rules, dashboards, the compose file, runbooks.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::rules::{self, expressions as expressions_of};
use crate::docs::page::root;

/// Unit tests in which every alert is silent, by how their names begin.
const SILENT: [&str; 5] = [
    "nothing fires in a healthy hour",
    "nothing fires without traffic",
    "nothing fires after a gap",
    "nothing fires after a restart of the gateway",
    "nothing fires after a restart in a gap",
];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run(command: &mut Command) -> Output {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/setup installs it"));
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&said));
    output
}

/// The values of all lines that begin with this key.
fn values_of<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = String> + 'a {
    text.lines()
        .filter_map(move |line| line.trim_start().strip_prefix(key))
        .map(|value| value.trim().to_owned())
}

/// Every expression of the rules. An alert's is one that gives something when it fires.
pub fn rule_expressions() -> Vec<String> {
    let found = expressions_of(&[rules::read("alerts.yaml"), rules::read("rules.yaml")].concat());
    assert!(found.len() > 15, "{found:?}");
    found
}

/// Every expression of every dashboard, with Grafana's variables filled in.
pub fn dashboard_expressions() -> Vec<String> {
    let mut found = Vec::new();
    for file in fs::read_dir(root().join("deploy/grafana")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            expressions(&dashboard, &mut found);
        }
    }
    let filled =
        found.iter().map(|expression| expression.replace("$job", ".*").replace("$__rate_interval", "1m"));
    filled.collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(expression) = members.get("expr").and_then(Value::as_str) {
                found.push(expression.to_owned());
            }
            members.values().for_each(|member| expressions(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn rules_are_valid_and_each_alert_has_a_test_and_a_runbook() {
    let folder = root().join("deploy/prometheus");
    run(Command::new("promtool")
        .arg("check")
        .arg("rules")
        .arg(folder.join("alerts.yaml"))
        .arg(folder.join("rules.yaml")));
    run(Command::new("promtool").args(["test", "rules"]).arg(folder.join("tests.yaml")));
    let (alerts, tests) = (read("deploy/prometheus/alerts.yaml"), read("deploy/prometheus/tests.yaml"));
    let names: BTreeSet<String> = rules::alerts().into_iter().map(|alert| alert.name).collect();
    assert_eq!(names.len(), 15, "{names:?}");
    let page = read("docs/how-to/monitoring.md");
    for name in names {
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} fires in no test");
        for name_of_test in SILENT {
            let test = tests.split(&format!("  - name: {name_of_test}")).nth(1).unwrap();
            let test = test.split("  - name: ").next().unwrap();
            let is_silent = test.contains(&format!("alertname: {name}, exp_alerts: []"));
            assert!(is_silent, "{name} is not in the test \"{name_of_test}\"");
        }
        assert!(page.contains(&format!("| `{name}` |")), "docs/how-to/monitoring.md lacks {name}");
    }
    for runbook in values_of(&alerts, "runbook_url: ") {
        let page = read(&runbook);
        let own = values_of(&alerts, "- alert: ").any(|name| page.contains(&format!("`{name}`")));
        assert!(own, "{runbook} names no alert");
    }
}

#[test]
fn the_dashboard_is_what_its_script_writes() {
    run(Command::new("python3").arg(root().join("deploy/grafana/make")).arg("--check"));
}

/// No metric of a dashboard or rule has a name that the gateway does not export; the page of metrics lists those.
#[test]
fn only_families_that_are_exported_are_asked_for() {
    let page = read("docs/metrics.md");
    for expression in dashboard_expressions().into_iter().chain(rule_expressions()) {
        let words = expression.split(|next: char| !(next.is_ascii_alphanumeric() || next == '_'));
        for word in words.filter(|word| word.starts_with("sluicegate_") && !word.contains("ratio_rate")) {
            let stems = ["_total", "_bucket", "_count", "_sum", ""].map(|end| word.strip_suffix(end));
            let is_known = stems.into_iter().flatten().any(|stem| page.contains(&format!("| `{stem}` |")));
            // A recorded name contains one of a family.
            assert!(
                is_known || ["sluicegate_failed", "sluicegate_retries"].contains(&word),
                "{word} in {expression}"
            );
        }
        assert!(!expression.contains("sluicegate_exchange"), "old name in {expression}");
    }
}

#[test]
fn the_compose_file_names_files_and_services_that_are_there() {
    let folder = root().join("deploy/compose");
    run(Command::new("python3").arg(folder.join("check")));
    let config = folder.join("prometheus.yml");
    run(Command::new("promtool").args(["check", "config", "--syntax-only"]).arg(&config));
    assert!(Path::new(&folder.join("traffic.py")).exists());
    let mut check = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    check.args(["check", "--config"]).arg(folder.join("gateway.toml"));
    run(check
        .env("ADMIN_TOKEN", "demonstration-token-0123456789")
        .env("UPSTREAM_KEY", crate::harness::UPSTREAM_KEY));
}

/// Types of Grafana's own, from npm: the pinned package is in `tests/monitoring/package-lock.json`.
#[test]
fn the_dashboard_has_the_types_of_grafanas_schema() {
    let folder = root().join("tests/monitoring");
    run(Command::new("bash").arg(folder.join("types")));
}

/// Prometheus and the simulators of Debian's packages, as `deploy/compose/debian` starts them.
#[test]
fn the_script_for_debian_starts_everything_and_sees_data() {
    let script = root().join("deploy/compose/debian");
    let mut command = Command::new("bash");
    command.arg(script).arg("--check").env("SLUICEGATE", env!("CARGO_BIN_EXE_sluicegate"));
    run(&mut command);
}
