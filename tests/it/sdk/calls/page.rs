//! `docs/sdks.md`: one line for each call, one column for each client.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde_json::Value;

use super::{
    compare::{Run, differences},
    data::{Call, Data, Difference, Section, Upstream},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sdks.md");
const COMMAND: &str = "SLUICEGATE_WRITE=1 cargo test --test it -- sdk::calls";

/// What came of one call by one client.
pub(super) struct Cell {
    /// The client's SDK has no such call.
    is_absent: bool,
    /// Method and path, as the upstream received them first.
    request: Option<String>,
    differences: Vec<(String, Value, Value)>,
}

/// The page while it is made.
pub(super) struct Page<'a> {
    data: &'a Data,
    /// The name of the part that is written.
    part: &'a str,
    /// By section, call and client.
    cells: BTreeMap<Key<'a>, Cell>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    section: &'a str,
    call: String,
    client: &'a str,
}

impl Cell {
    /// What came of the direct way and of the one through the gateway.
    pub(super) fn of(section: &Section, call: &Call, [direct, through]: [&Run; 2]) -> Self {
        let request = direct.requests.first().map(|request| {
            let path = request.target.split('?').next().unwrap();
            format!("{} {path}", request.method)
        });
        let is_absent = direct.result["absent"] == true;
        let differences = differences(direct, through);
        let cell = Self { is_absent, request, differences };
        // A call that failed in the client would look the same both ways.
        let arrived = match section.upstream {
            Upstream::Scripted => {
                !direct.requests.is_empty() && (call.wrong_key || !through.requests.is_empty())
            }
            _ => call.fails || direct.result.get("error").is_none(),
        };
        assert!(
            is_absent || arrived,
            "{}: the upstream was not asked: {} {}",
            call.title(),
            direct.result,
            cell.shown()
        );
        cell
    }

    /// The differences, for who has to explain them.
    fn shown(&self) -> String {
        let shown = self.differences.iter().map(|(at, direct, through)| {
            let [direct, through] =
                [direct, through].map(|value| value.to_string().chars().take(300).collect::<String>());
            format!("\n    {at}: {direct}\n    through the gateway: {through}")
        });
        shown.collect()
    }

    fn places(&self) -> Vec<&str> {
        let mut places: Vec<&str> = self.differences.iter().map(|(at, ..)| at.as_str()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl<'a> Page<'a> {
    pub(super) fn new(data: &'a Data, part: &'a str) -> Self {
        Self { data, part, cells: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, section: &'a Section, call: &Call, client: &'a str, cell: Cell) {
        let key = Key { section: &section.title, call: call.title(), client };
        let earlier = self.cells.insert(key, cell);
        assert!(earlier.is_none(), "{} twice", call.title());
    }

    /// Each difference has a reason, and each part of a reason a difference.
    pub(super) fn check(&self) {
        let mut wrong = String::new();
        let mut unseen: Vec<Vec<&str>> =
            self.data.difference.iter().map(|known| known.at.iter().map(String::as_str).collect()).collect();
        for (Key { call, client, .. }, cell) in &self.cells {
            if cell.is_absent || cell.differences.is_empty() {
                continue;
            }
            match self.reason(call, client, cell) {
                Some(number) => unseen[number].retain(|at| !cell.places().contains(at)),
                None => writeln!(wrong, "{call} by {client} differs:{}", cell.shown()).unwrap(),
            }
        }
        for (difference, unseen) in self.data.difference.iter().zip(unseen) {
            if !unseen.is_empty() {
                writeln!(wrong, "{:?}: no call differs at {unseen:?}", difference.calls).unwrap();
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    /// Which of the known differences it is.
    fn reason(&self, call: &str, client: &str, cell: &Cell) -> Option<usize> {
        let is_it = |known: &Difference| {
            known.calls.iter().any(|one| one == call)
                && (known.clients.is_empty() || known.clients.iter().any(|one| one == client))
                && cell.places().iter().all(|place| known.at.iter().any(|at| at == place))
        };
        self.data.difference.iter().position(is_it)
    }

    /// The page in the repository says the same; with `SLUICEGATE_WRITE` it is written.
    pub(super) fn is_committed(&self) {
        let page = fs::read_to_string(PAGE).unwrap_or_default();
        let [begin, end] = ["begin", "end"].map(|which| format!("<!-- {}: {which} -->\n", self.part));
        let (before, rest) = page.split_once(&begin).expect("the mark before the tables");
        let (_, after) = rest.split_once(&end).expect("the mark behind the tables");
        let expected = format!("{before}{begin}{}{end}{after}", self.tables());
        if std::env::var_os("SLUICEGATE_WRITE").is_some() {
            fs::write(PAGE, &expected).unwrap();
            return;
        }
        assert!(page == expected, "docs/sdks.md is not what came of the calls; run {COMMAND}");
    }

    fn tables(&self) -> String {
        let mut text = String::new();
        for section in &self.data.section {
            self.table(&mut text, section);
        }
        self.reasons(&mut text);
        text
    }

    fn table(&self, text: &mut String, section: &'a Section) {
        writeln!(text, "\n### {}\n", section.title).unwrap();
        if let Some(sentence) = &section.text {
            writeln!(text, "{sentence}\n").unwrap();
        }
        let clients = section.clients.join(" | ");
        writeln!(text, "| call | request | {clients} |\n|---|---|{}", "---|".repeat(section.clients.len()))
            .unwrap();
        for call in &section.calls {
            let title = call.title();
            let cell = |client: &'a str| {
                let key = Key { section: &section.title, call: title.clone(), client };
                (client, self.cells.get(&key))
            };
            let cells: Vec<(&str, Option<&Cell>)> =
                section.clients.iter().map(|client| cell(client)).collect();
            let request = cells.iter().find_map(|(_, cell)| cell.as_ref()?.request.clone());
            let said: Vec<String> =
                cells.into_iter().map(|(client, cell)| self.said(&title, client, cell)).collect();
            let special = call.r#as.as_ref().map(|special| format!(", {special}")).unwrap_or_default();
            let request = request.map(|request| format!("`{request}`")).unwrap_or_default();
            writeln!(text, "| `{}`{special} | {request} | {} |", call.call, said.join(" | ")).unwrap();
        }
    }

    fn said(&self, call: &str, client: &str, cell: Option<&Cell>) -> String {
        let Some(cell) = cell.filter(|cell| !cell.is_absent) else { return "–".to_owned() };
        if cell.differences.is_empty() {
            return "same".to_owned();
        }
        match self.reason(call, client, cell) {
            Some(number) => format!("[{0}](#{1}-{0})", number + 1, self.anchor()),
            None => "differs".to_owned(),
        }
    }

    /// Two parts stand in one page, so their differences have names of their own.
    fn heading(&self) -> &'static str {
        if self.part == "calls" { "Difference" } else { "Other difference" }
    }

    fn anchor(&self) -> String {
        self.heading().to_lowercase().replace(' ', "-")
    }

    fn reasons(&self, text: &mut String) {
        writeln!(text, "\n### {}s\n", self.heading()).unwrap();
        for (number, difference) in self.data.difference.iter().enumerate() {
            let at: Vec<String> = difference.at.iter().map(|at| format!("`{at}`")).collect();
            let (number, because, at) = (number + 1, &difference.because, at.join(", "));
            writeln!(text, "#### {} {number}\n\n{because} ({at})\n", self.heading()).unwrap();
        }
    }
}
