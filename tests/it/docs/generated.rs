//! Pages that the program writes itself. `SLUICEGATE_WRITE=1 cargo test --test it -- docs::generated` writes them.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use clap::Command;

use super::page::root;
use crate::{
    harness::{Gateway, Http, Keys, simulator},
    metrics::scrape::Scrape,
};

const COMMAND: &str = "SLUICEGATE_WRITE=1 cargo test --test it -- docs::generated";

/// Compares a page with what it should be, or writes it when asked to.
fn committed(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("SLUICEGATE_WRITE").is_some() {
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is not what the program says; run {COMMAND}");
}

#[test]
fn the_page_of_the_command_line_is_what_help_says() {
    let mut page = format!(
        "# Command line\n\n<!-- Generated from the definition of the command line. Do not edit this page; write it with\n     {COMMAND} -->\n\n\
         `sluicegate COMMAND --help` prints the same. Exit codes are explained on their [own page](exit-codes.md).\n"
    );
    let mut command = sluicegate::cli::command().term_width(100);
    command.build();
    describe(&mut page, &command, "sluicegate");
    committed("docs/command-line.md", &page);
}

fn describe(page: &mut String, command: &Command, path: &str) {
    let help = command.clone().term_width(100).render_long_help().to_string();
    // Lines end without spaces, as an editor writes them.
    let help: Vec<&str> = help.trim().lines().map(str::trim_end).collect();
    write!(page, "\n## {path}\n\n```text\n{}\n```\n", help.join("\n")).unwrap();
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        describe(page, inner, &format!("{path} {}", inner.get_name()));
    }
}

/// Every family has its HELP and TYPE, also before anything was counted.
#[tokio::test]
async fn the_page_of_metrics_lists_what_is_exported() {
    let upstream = simulator().await;
    let more = "[admin]\naddress = \"127.0.0.1:0\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { more, ..Keys::default() });
    let scrape = Scrape::of(gateway.admin.unwrap(), "application/openmetrics-text").await;
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (before, rest) = page.split_once("docs::generated -->\n").expect("the mark before the table");
    let (_, after) = rest.split_once("<!-- end -->").expect("the mark behind the table");
    committed(
        "docs/metrics.md",
        &format!("{before}docs::generated -->\n\n{}\n<!-- end -->{after}", table(&scrape.text)),
    );
}

fn table(exposition: &str) -> String {
    let mut kinds = BTreeMap::new();
    let mut table = String::from("| metric | kind | meaning |\n|---|---|---|\n");
    for line in exposition.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        }
    }
    let mut helps: Vec<(&str, &str)> =
        exposition.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    helps.sort_unstable();
    assert!(helps.len() == kinds.len() && helps.len() > 30, "{exposition}");
    for (name, help) in helps {
        writeln!(table, "| `{name}` | {} | {help} |", kinds[name]).unwrap();
    }
    table
}
