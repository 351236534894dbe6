//! Every expression of every dashboard and alert, and every alert, against a real Prometheus that scrapes a real gateway.

use std::{collections::BTreeSet, fs};

use super::{
    environment::Environment,
    files::{alert_names, dashboard_expressions, rule_expressions},
    prometheus::{BETWEEN, Prometheus},
};
use crate::harness::safely;

/// Expressions that may be empty, by a part of them, with the reason.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("changes(process_start_time_seconds", "nothing restarts here"),
    ("sluicegate_queue_wait_seconds", "no limit has a queue here"),
    ("sluicegate_limit_decisions_total", "limits do not count their decisions yet"),
    (
        "sluicegate_log_lines_dropped_total[5m]) > 0",
        "the other half of the alert is tested: labels are dropped",
    ),
];

#[tokio::test]
async fn every_expression_has_data_and_every_alert_fires() {
    let environment = Environment::start().await;
    let prometheus = Prometheus::start(&environment.targets());
    let mut empty: BTreeSet<String> = dashboard_expressions().into_iter().chain(rule_expressions()).collect();
    empty.retain(|expression| !MAY_BE_EMPTY.iter().any(|(part, _)| expression.contains(part)));
    assert!(empty.len() > 60, "{empty:?}");
    let mut silent: BTreeSet<String> = alert_names().into_iter().collect();
    // The first series must be there before what is slow is counted.
    environment.round(0).await;
    safely(async {
        while prometheus
            .count("gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model=\"slow-model\"}")
            .await
            == 0
        {
            tokio::time::sleep(BETWEEN).await;
        }
    })
    .await;
    let slow = environment.begin_slow();
    environment.reload().await;
    let all = async {
        let mut number = 1;
        while !(empty.is_empty() && silent.is_empty()) {
            environment.round(number).await;
            number += 1;
            for name in prometheus.firing().await {
                silent.remove(&name);
            }
            for expression in empty.clone() {
                if prometheus.count(&expression).await > 0 {
                    empty.remove(&expression);
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    let done = tokio::time::timeout(std::time::Duration::from_secs(120), all).await;
    assert!(done.is_ok(), "without data: {empty:#?}\nhave not fired: {silent:#?}");
    assert!(environment.is_busy());
    if let Some(folder) = std::env::var_os("SLUICEGATE_PANELS") {
        draw(&prometheus, &folder);
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Draws each panel from what this Prometheus has.
fn draw(prometheus: &Prometheus, folder: &std::ffi::OsStr) {
    fs::create_dir_all(folder).unwrap();
    let status = std::process::Command::new("python3")
        .arg(crate::docs::page::root().join("deploy/grafana/draw"))
        .arg(format!("http://{}", prometheus.address))
        .arg(folder)
        .status();
    assert!(status.unwrap().success());
}
