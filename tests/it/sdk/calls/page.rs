//! `docs/sdks.md`: one line for each call, one column for each client.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde_json::Value;

use super::{
    compare::{Run, differences},
    data::{Call, Data, Difference, Section},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sdks.md");
const COMMAND: &str = "SLUICEGATE_WRITE=1 cargo test --test it -- sdk::calls";
const BEGIN: &str = "<!-- calls: begin -->\n";
const END: &str = "<!-- calls: end -->\n";

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
    cells: BTreeMap<(String, &'a str), Cell>,
}

impl Cell {
    pub(super) fn of(call: &Call, direct: &Run, through: &Run) -> Self {
        let is_absent = direct.result["absent"] == true;
        // A call that failed in the client would look the same both ways.
        let (title, said) = (call.title(), &direct.result);
        assert!(is_absent || !direct.requests.is_empty(), "{title}: the upstream got no request: {said}");
        assert!(
            is_absent || call.wrong_key || !through.requests.is_empty(),
            "{title}: no request went through the gateway: {}",
            through.result
        );
        let request = direct.requests.first().map(|request| {
            let path = request.target.split('?').next().unwrap();
            format!("{} {path}", request.method)
        });
        Self { is_absent, request, differences: differences(direct, through) }
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
    pub(super) fn new(data: &'a Data) -> Self {
        Self { data, cells: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, call: &Call, client: &'a str, cell: Cell) {
        let earlier = self.cells.insert((call.title(), client), cell);
        assert!(earlier.is_none(), "{} twice", call.title());
    }

    /// Each difference has a reason, and each part of a reason a difference.
    pub(super) fn check(&self) {
        let mut wrong = String::new();
        let mut unseen: Vec<Vec<&str>> =
            self.data.difference.iter().map(|known| known.at.iter().map(String::as_str).collect()).collect();
        for ((call, client), cell) in &self.cells {
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
        let (before, rest) = page.split_once(BEGIN).expect("the mark before the tables");
        let (_, after) = rest.split_once(END).expect("the mark behind the tables");
        let expected = format!("{before}{BEGIN}{}{END}{after}", self.tables());
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

    fn table(&self, text: &mut String, section: &Section) {
        writeln!(text, "\n### {}\n", section.title).unwrap();
        if let Some(sentence) = &section.text {
            writeln!(text, "{sentence}\n").unwrap();
        }
        let clients = section.clients.join(" | ");
        writeln!(text, "| call | request | {clients} |\n|---|---|{}", "---|".repeat(section.clients.len()))
            .unwrap();
        for call in &section.calls {
            let title = call.title();
            let cells: Vec<(&str, Option<&Cell>)> = section
                .clients
                .iter()
                .map(|client| (client.as_str(), self.cells.get(&(title.clone(), client.as_str()))))
                .collect();
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
            Some(number) => format!("[{0}](#difference-{0})", number + 1),
            None => "differs".to_owned(),
        }
    }

    fn reasons(&self, text: &mut String) {
        writeln!(text, "\n### Differences\n").unwrap();
        for (number, difference) in self.data.difference.iter().enumerate() {
            let at: Vec<String> = difference.at.iter().map(|at| format!("`{at}`")).collect();
            writeln!(text, "#### Difference {}\n\n{} ({})\n", number + 1, difference.because, at.join(", "))
                .unwrap();
        }
    }
}
