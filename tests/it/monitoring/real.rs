//! Every expression of every dashboard and alert, and every alert, against a real Prometheus that scrapes a real gateway.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    environment::Environment,
    files::{dashboard_expressions, rule_expressions},
    prometheus::{BETWEEN, Prometheus, alarm, alarms},
    rules::arms,
};
use crate::{harness::safely, sdk::packages};

/// Expressions that may be empty, by a part of them, with the reason.
const MAY_BE_EMPTY: &[(&str, &str)] =
    &[("absent(up{job=\"sluicegate\"})", "there are targets; a Prometheus without any tests it")];

/// The alarm that only a Prometheus without targets has.
const WITHOUT_TARGETS: (&str, &str, &str) = ("SluicegateDown", "critical", "2");

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// For how long the mix goes on before panels are drawn, so that something is to be seen.
const BEFORE_DRAWING: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_expression_has_data_and_every_alert_fires() {
    let drawing = std::env::var_os("SLUICEGATE_PANELS").map(|folder| (packages::plotter(), folder));
    let mut environment = Environment::start().await;
    let prometheus = Prometheus::start(&environment.targets());
    let mut empty = expressions();
    let (name, severity, arm) = WITHOUT_TARGETS;
    let elsewhere = alarm(name, severity, arm);
    let mut silent = alarms();
    assert!(silent.remove(&elsewhere), "{elsewhere} is among {silent:#?}");
    assert!(silent.len() > 30, "{silent:#?}");
    // The first series must be there before what is slow is counted.
    environment.round(0).await;
    has_first_token(&prometheus).await;
    let slow = environment.begin_slow();
    environment.reload().await;
    let mut number = 1;
    let all = async {
        while !(empty.is_empty() && silent.is_empty()) {
            environment.round(number).await;
            number += 1;
            for alarm in prometheus.firing().await {
                silent.remove(&alarm);
            }
            for expression in empty.clone() {
                if prometheus.count(&expression).await > 0 {
                    empty.remove(&expression);
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    let done = tokio::time::timeout(LIMIT, all).await;
    assert!(done.is_ok(), "without data: {empty:#?}\nhave not fired: {silent:#?}");
    assert!(environment.is_busy());
    if let Some((plotter, folder)) = drawing {
        let end = Instant::now() + BEFORE_DRAWING;
        while Instant::now() < end {
            environment.round(number).await;
            number += 1;
        }
        draw(plotter, &prometheus, &folder);
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_prometheus_without_targets_says_so() {
    let prometheus = Prometheus::start(&[]);
    let (name, severity, arm) = WITHOUT_TARGETS;
    let wanted = [alarm(name, severity, ""), alarm(name, severity, arm)];
    safely(async {
        loop {
            let firing = prometheus.firing().await;
            if wanted.iter().all(|alarm| firing.contains(alarm)) {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    })
    .await;
}

/// What has to give a number: each expression, and each arm of one, because an arm that always gives one would hide that the other does not.
fn expressions() -> BTreeSet<String> {
    let all = dashboard_expressions().into_iter().chain(rule_expressions());
    let mut found: BTreeSet<String> = all.flat_map(|expression| arms(&expression)).collect();
    found.retain(|expression| expression != "vector(0)");
    found.retain(|expression| !MAY_BE_EMPTY.iter().any(|(part, _)| expression.contains(part)));
    assert!(found.len() > 60, "{found:?}");
    found
}

async fn has_first_token(prometheus: &Prometheus) {
    let count = "gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model=\"slow-model\"}";
    safely(async {
        while prometheus.count(count).await == 0 {
            tokio::time::sleep(BETWEEN).await;
        }
    })
    .await;
}

/// Draws each panel from what this Prometheus has.
fn draw(mut plotter: Command, prometheus: &Prometheus, folder: &OsStr) {
    fs::create_dir_all(folder).unwrap();
    let status = plotter
        .arg(crate::docs::page::root().join("deploy/grafana/draw"))
        .arg(format!("http://{}", prometheus.address))
        .arg(folder)
        .status();
    assert!(status.unwrap().success());
}
