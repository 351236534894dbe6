//! `docs/providers.md`, generated from the table.

use std::{fmt::Write as _, fs, path::Path};

use super::{
    all,
    fixture::{Body, Cell, Expected, Kind, Provider, Setting},
};

const COMMAND: &str = "SLUICEGATE_WRITE=1 cargo test --test it -- providers::page";

const KINDS: [Kind; 9] = [
    Kind::Success,
    Kind::Stream,
    Kind::ErrorBefore,
    Kind::ErrorIn,
    Kind::RateLimit,
    Kind::NoCredit,
    Kind::BadKey,
    Kind::Moderation,
    Kind::Cut,
];

#[test]
fn is_what_the_table_generates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md");
    let page = page(&all());
    if std::env::var_os("SLUICEGATE_WRITE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/providers.md is not up to date: run {COMMAND}");
}

#[test]
fn every_kind_is_shown_or_explained() {
    let gap = |provider: &Provider, kind: Kind| {
        let shown = provider.cells.iter().any(|cell| cell.kind == kind);
        let explained = provider.absent.iter().any(|absent| absent.kind == kind);
        (shown == explained).then(|| format!("{} {kind:?}", provider.provider))
    };
    let gaps: Vec<String> =
        all().iter().flat_map(|provider| KINDS.iter().filter_map(move |kind| gap(provider, *kind))).collect();
    assert!(gaps.is_empty(), "neither a cell nor a reason, or both: {gaps:#?}");
}

fn page(providers: &[Provider]) -> String {
    let cells = || providers.iter().flat_map(|provider| &provider.cells);
    let invented = cells().filter(|cell| cell.invented.is_some()).count();
    let mut page = format!(
        "# What each provider sends, and what clients get\n\n\
         <!-- Generated from tests/it/providers/fixtures. To change it, edit them and run:\n     {COMMAND} -->\n\n\
         Each row is a test. The upstream sends exactly the bytes of the linked source. The request goes through a gateway with default \
         rules (and a shorter backoff) before one upstream with two keys, and again with a second upstream behind it. \"Requests\" is the number of requests that \
         reached the first upstream. {} rows, of which {invented} have no public source; these are marked.\n",
        cells().count(),
    );
    for provider in providers {
        section(&mut page, provider);
    }
    page
}

fn section(page: &mut String, provider: &Provider) {
    write!(page, "\n## {}\n\n", provider.provider).unwrap();
    if !provider.about.is_empty() {
        write!(page, "{}\n\n", provider.about.trim()).unwrap();
    }
    page.push_str("| case | the upstream sends | the client gets, one upstream | requests | the client gets, two upstreams | requests |\n");
    page.push_str("|---|---|---|---|---|---|\n");
    for kind in KINDS {
        for cell in provider.cells.iter().filter(|cell| cell.kind == kind) {
            row(page, cell);
        }
        for absent in provider.absent.iter().filter(|absent| absent.kind == kind) {
            writeln!(page, "| {} | {} | – | – | – | – |", kind.words(), absent.why).unwrap();
        }
    }
}

fn row(page: &mut String, cell: &Cell) {
    let [alone, spare] = [Setting::Alone, Setting::Spare].map(|setting| cell.expected(setting));
    let source = match (&cell.source, &cell.invented) {
        (Some(source), _) => format!("[source]({source})"),
        (_, why) => format!("**no source**: {}", why.as_deref().unwrap_or_default()),
    };
    let note = if cell.note.is_empty() { String::new() } else { format!("; {}", cell.note.trim()) };
    writeln!(
        page,
        "| {} | `{}` {} ({source}{note}) | {} | {} | {} | {} |",
        cell.kind.words(),
        cell.status_line(),
        cell.name.replace('-', " "),
        gets(&alone),
        alone.attempts,
        gets(&spare),
        spare.attempts,
    )
    .unwrap();
}

fn gets(expected: &Expected) -> String {
    let Expected { status, code, .. } = expected;
    let code = code.as_deref().unwrap_or_default();
    let end = if expected.aborted { ", then the connection is aborted" } else { "" };
    match expected.body {
        Body::Upstream if expected.aborted => {
            format!("{status}, the upstream's bytes{end}, so that SDKs raise an error")
        }
        Body::Upstream => format!("{status}, the upstream's own response"),
        Body::UpstreamThenError => {
            format!("{status}, the upstream's bytes, then an error event `{code}`{end}")
        }
        Body::Spare => format!("{status}, the second upstream's response"),
        Body::Gateway => format!("{status} `{code}`"),
        Body::Event => format!("{status} with the upstream's error `{code}`"),
    }
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Stream => "stream",
            Self::ErrorBefore => "error before the stream",
            Self::ErrorIn => "error in the stream",
            Self::RateLimit => "rate limit",
            Self::NoCredit => "no credit",
            Self::BadKey => "bad key",
            Self::Moderation => "moderation",
            Self::Cut => "cut",
        }
    }
}
