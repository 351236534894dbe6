//! Code blocks: each command and each configuration of the manual and the README works.
//!
//! Each page has a [`Stage`]: a folder, a simulated provider, and the built program. The blocks of a page run in their order and share what
//! they leave behind, as they do for a reader:
//!
//! - `toml` is the page's `gateway.toml` until the next one. It must pass `sluicegate check`, as it is written.
//! - `sh` runs in the folder. Commands that serve (`serve`, `run`, `demo`) go on in the background until the next one.
//! - `python` and `js` run with the official SDKs, against the gateway that runs, or else one with the page's `gateway.toml`.
//!
//! Ports, the base URLs of providers, and `sk-sg-...` are replaced by those of the stage. What needs an account or root has the comment
//! `<!-- not run: WHY -->` before it, and is only parsed.

use std::{fs, process::Command};

use super::{
    page::{Block, Page, manual},
    run::{Done, Stage, done},
};
use crate::{folder::Folder, sdk::packages};

/// Languages of blocks that show something else than commands, code of clients, or configurations.
const SHOWN: [&str; 7] = ["text", "json", "yaml", "ini", "nginx", "caddyfile", "rust"];

#[test]
fn every_block_of_the_manual_runs() {
    let mut failures = Vec::new();
    let mut counts = [0, 0];
    for page in manual() {
        let blocks = page.blocks();
        let code: Vec<&Block> =
            blocks.iter().filter(|block| !SHOWN.contains(&block.language.as_str())).collect();
        if code.is_empty() {
            continue;
        }
        let mut stage = Stage::new(&page.text);
        for block in code {
            counts[usize::from(block.not_run.is_some())] += 1;
            let result = if block.not_run.is_some() { parse(block) } else { run(&mut stage, block) };
            if let Err(why) = result {
                failures.push(format!("{}:{} ({}): {why}", page.path, block.line, block.language));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let [ran, parsed] = counts;
    assert!(ran >= 90 && parsed <= 18, "{ran} blocks ran, {parsed} were only parsed");
}

#[test]
fn a_block_that_is_not_run_says_why() {
    for page in manual() {
        for block in page.blocks() {
            let Some(why) = &block.not_run else { continue };
            assert!(why.split(' ').count() >= 4, "{}:{}: {why:?} is no reason", page.path, block.line);
        }
    }
}

/// A mark that stands before nothing would be a block that nobody misses.
#[test]
fn every_mark_belongs_to_a_block() {
    for page in manual() {
        let marks = page.text.matches("<!-- not run:").count();
        let marked = page.blocks().iter().filter(|block| block.not_run.is_some()).count();
        assert_eq!(marks, marked, "{}", page.path);
    }
}

/// What the runner itself must notice.
#[test]
fn a_wrong_block_fails() {
    let page = |language: &str, text: &str| {
        let text = format!("# Page\n\n```{language}\n{text}\n```\n");
        Page { path: "page.md".to_owned(), text }
    };
    let wrong = [
        page("sh", "sluicegate chekc"),
        page("sh", "false\ntrue"),
        page("sh", "sluicegate demo\ncurl http://localhost:8080/v1/nothing"),
        page("toml", "[[listener]]\naddress = \"127.0.0.1:8080\"\n[route.a]\npaht = \"/v1\"\nupstreams = []"),
        page("python", "import openai\nopenai.Client()"),
        page("js", "import OpenAI from \"openai\"; OpenAI.nothing();"),
        page("bash", "true"),
    ];
    for page in wrong {
        let block = &page.blocks()[0];
        assert!(run(&mut Stage::new(&page.text), block).is_err(), "{}", page.text);
    }
    for (language, text) in [("sh", "if true"), ("python", "def f(:"), ("js", "const = 1;"), ("toml", "[a")] {
        assert!(parse(&page(language, text).blocks()[0]).is_err(), "{language}");
    }
}

fn run(stage: &mut Stage, block: &Block) -> Result<(), String> {
    match block.language.as_str() {
        "sh" => stage.shell(&block.text),
        "toml" => stage.configure(&block.text),
        "python" => stage.python(&block.text),
        "js" => stage.node(&block.text),
        other => {
            Err(format!("nobody knows how to check {other:?}; use sh, toml, python, js, or one of {SHOWN:?}"))
        }
    }
}

/// Of a block that is not run, the grammar is checked.
fn parse(block: &Block) -> Result<(), String> {
    let folder = Folder::new();
    let is_valid = |command: &mut Command| {
        let Done { ok, said } = done(command);
        if ok { Ok(()) } else { Err(said) }
    };
    match block.language.as_str() {
        "sh" => is_valid(Command::new("bash").args(["-n", &folder.write("block.sh", &block.text)])),
        "toml" => block.text.parse::<toml::Table>().map(|_| ()).map_err(|error| error.to_string()),
        "python" => {
            let file = folder.write("block.py", &block.text);
            is_valid(packages::interpreter().args(["-m", "py_compile", &file]))
        }
        "js" => {
            let file = folder.path("block.mjs");
            fs::write(&file, &block.text).unwrap();
            is_valid(packages::node().args(["--check", &file]))
        }
        other => Err(format!("nobody knows how to parse {other:?}")),
    }
}
