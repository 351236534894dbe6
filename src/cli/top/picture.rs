//! The state as lines of text.

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::{
    super::log::text::{safe, span},
    Sort,
};

const BAD: Style = AnsiColor::Red.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// A response is silent after this time, in milliseconds.
const SILENT: i64 = 30_000;

/// The room that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) lines: usize,
}

/// What is drawn, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture<'a> {
    pub(super) state: &'a Value,
    /// The gateway's clock, in milliseconds.
    pub(super) now: i64,
    pub(super) size: Size,
    pub(super) colours: bool,
}

/// A column of the table of requests.
struct Column {
    name: &'static str,
    width: usize,
    /// Whether it is numbers, which stand on the right.
    right: bool,
    text: fn(&Row<'_>) -> String,
}

const COLUMNS: [Column; 9] = [
    Column { name: "AGE", width: 8, right: true, text: |row| millis(row.age()) },
    Column { name: "CLIENT", width: 14, right: false, text: |row| row.text("client") },
    Column { name: "MODEL", width: 22, right: false, text: |row| row.text("model") },
    Column { name: "UPSTREAM", width: 12, right: false, text: |row| row.text("upstream") },
    Column { name: "PHASE", width: 10, right: false, text: |row| row.text("phase") },
    Column {
        name: "FIRST",
        width: 7,
        right: true,
        text: |row| row.number("first_token").map(millis).unwrap_or_default(),
    },
    Column { name: "TOK/S", width: 6, right: true, text: |row| format!("{:.1}", row.rate()) },
    Column { name: "SILENT", width: 7, right: true, text: |row| millis(row.silence()) },
    Column {
        name: "TRY",
        width: 3,
        right: true,
        text: |row| row.number("attempts").unwrap_or_default().to_string(),
    },
];

/// One request.
struct Row<'a> {
    id: &'a str,
    row: &'a Value,
    now: i64,
}

impl Row<'_> {
    fn text(&self, name: &str) -> String {
        safe(self.row[name].as_str().unwrap_or("–"))
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.row[name].as_i64()
    }

    fn age(&self) -> i64 {
        self.now.saturating_sub(self.number("start").unwrap_or(self.now))
    }

    fn rate(&self) -> f64 {
        self.row["rate"].as_f64().unwrap_or_default()
    }

    /// Time since the last frame of the response, or since the last attempt began.
    fn silence(&self) -> i64 {
        let tried = self.row["tried"].as_array().and_then(|tried| tried.last());
        let start = self.number("start").unwrap_or(self.now);
        let attempt =
            tried.and_then(|attempt| attempt["start"].as_i64()).map(|after| start.saturating_add(after));
        self.now.saturating_sub(self.number("last").or(attempt).unwrap_or(start)).max(0)
    }

    fn is_silent(&self) -> bool {
        let phase = self.row["phase"].as_str().unwrap_or_default();
        self.silence() > SILENT
            && matches!(phase, "connect" | "first_byte" | "stream")
            && self.row.get("turns").is_none()
    }
}

impl Picture<'_> {
    /// The whole picture, with the requests that `fits` accepts.
    pub(super) fn draw(self, sort: Sort, fits: impl Fn(&Value) -> bool) -> String {
        let mut lines = vec![self.headline()];
        lines.extend(self.notices());
        lines.extend(self.upstreams());
        lines.push(String::new());
        lines.push(self.paint(HEAD, &self.header()));
        let mut rows: Vec<Row<'_>> = self.rows().filter(|row| fits(row.row)).collect();
        sort_rows(&mut rows, sort);
        let room = self.size.lines.saturating_sub(lines.len() + 1);
        let hidden = rows.len().saturating_sub(room);
        lines.extend(rows.iter().take(room).map(|row| self.request(row)));
        if rows.is_empty() {
            lines.push(self.paint(DIM, "no request in flight"));
        }
        let unlisted = self.state["totals"]["not_listed"].as_u64().unwrap_or_default();
        if hidden > 0 || unlisted > 0 {
            lines.push(self.paint(DIM, &self.cut(&format!("and {} more", hidden as u64 + unlisted))));
        }
        lines.truncate(self.size.lines);
        lines.join("\n") + "\n"
    }

    fn headline(&self) -> String {
        let (gateway, totals) = (&self.state["gateway"], &self.state["totals"]);
        let count = |name: &str| totals[name].as_u64().unwrap_or_default();
        let ready = gateway["ready"].as_bool() == Some(true);
        let rate = totals["rate"].as_f64().unwrap_or_default();
        let counts = format!(
            "  generation {}  {} in flight  {rate:.1} tok/s  {} finished  {} failed  ",
            gateway["generation"].as_u64().unwrap_or_default(),
            count("in_flight"),
            count("finished"),
            count("failed"),
        );
        let pieces = [
            (HEAD, format!("sluicegate {}  ", safe(gateway["version"].as_str().unwrap_or_default()))),
            if ready { (GOOD, "ready".to_owned()) } else { (WARNING, "draining".to_owned()) },
            (Style::new(), counts),
            (if count("broken") > 0 { BAD } else { Style::new() }, format!("{} broken off", count("broken"))),
        ];
        let (mut line, mut room) = (String::new(), self.size.columns);
        for (style, text) in pieces {
            let cut = cut_to(&text, room);
            room -= width_of(&cut);
            line.push_str(&self.paint(style, &cut));
        }
        line
    }

    fn notices(&self) -> impl Iterator<Item = String> {
        let notices = self.state["notices"].as_array().into_iter().flatten();
        notices.map(move |notice| {
            let text = |name: &str| safe(notice[name].as_str().unwrap_or_default());
            self.paint(BAD, &self.cut(&format!("! {}: {}", text("who"), text("text"))))
        })
    }

    fn upstreams(&self) -> impl Iterator<Item = String> {
        let upstreams = self.state["upstreams"].as_object().into_iter().flatten();
        upstreams.map(move |(name, upstream)| {
            let targets: Vec<&Value> = upstream["targets"].as_object().into_iter().flatten().map(|(_, one)| one).collect();
            let open = targets.iter().filter(|target| target["circuit"].as_str() != Some("closed")).count();
            let pending: u64 = targets.iter().filter_map(|target| target["pending"].as_u64()).sum();
            let resting = upstream["keys_in_cooldown"].as_array().map_or(0, Vec::len);
            let keys = upstream["keys"].as_u64().unwrap_or_default();
            let text = format!(
                "  {:<14} {} of {} targets up  {} of {keys} keys usable  {pending} pending  {} answered  {} failed",
                safe(name),
                targets.len() - open,
                targets.len(),
                keys.saturating_sub(resting as u64),
                upstream["answered"].as_u64().unwrap_or_default(),
                upstream["failed"].as_u64().unwrap_or_default(),
            );
            let style = if open > 0 { BAD } else if resting > 0 { WARNING } else { DIM };
            self.paint(style, &self.cut(&text))
        })
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let streams = self.state["streams"].as_object().into_iter().flatten();
        streams.map(|(id, row)| Row { id, row, now: self.now })
    }

    fn header(&self) -> String {
        let cells = COLUMNS.iter().map(|column| cell(column.name, column));
        self.cut(&format!("{} REQUEST", cells.collect::<Vec<_>>().join(" ")))
    }

    fn request(&self, row: &Row<'_>) -> String {
        let cells = COLUMNS.iter().map(|column| cell(&(column.text)(row), column));
        let line = self.cut(&format!("{} {}", cells.collect::<Vec<_>>().join(" "), safe(row.id)));
        if row.is_silent() { self.paint(BAD, &line) } else { line }
    }

    /// As much of a line as there is room for.
    fn cut(&self, line: &str) -> String {
        cut_to(line, self.size.columns)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colours { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

fn sort_rows(rows: &mut [Row<'_>], sort: Sort) {
    let key = |row: &Row<'_>| match sort {
        Sort::Age => row.age(),
        Sort::Silence => row.silence(),
        Sort::Rate => (row.rate() * 10.0) as i64,
        Sort::First => row.number("first_token").unwrap_or(-1),
        Sort::Attempts => row.number("attempts").unwrap_or_default(),
    };
    rows.sort_by_key(|row| std::cmp::Reverse((key(row), row.age())));
}

fn cell(text: &str, column: &Column) -> String {
    let cut = cut_to(text, column.width);
    let fill = " ".repeat(column.width.saturating_sub(width_of(&cut)));
    if column.right { fill + &cut } else { cut + &fill }
}

/// As much of `text` as fits into so many columns.
fn cut_to(text: &str, columns: usize) -> String {
    let mut room = columns;
    let fits = |letter: &char| {
        let left = room.checked_sub(columns_of(*letter));
        room = left.unwrap_or_default();
        left.is_some()
    };
    text.chars().take_while(fits).collect()
}

/// The number of columns that `text` takes.
fn width_of(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The number of columns that a terminal gives to `letter`: none to marks that combine with the letter before them, two to what is wide in
/// East Asian text (UAX #11, by blocks) and to pictures.
fn columns_of(letter: char) -> usize {
    match letter {
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

fn millis(span_: i64) -> String {
    span(span_ as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state() -> Value {
        json!({
            "gateway": { "version": "0.2.0", "ready": true, "generation": 3 },
            "totals": { "in_flight": 2, "rate": 41.5, "finished": 9, "failed": 1, "broken": 1, "not_listed": 0 },
            "notices": [{ "who": "provider", "text": "openai: circuit breaker open at 1 of 2 targets" }],
            "upstreams": { "openai": {
                "targets": { "0": { "circuit": "open", "pending": 0 }, "1": { "circuit": "closed", "pending": 2 } },
                "keys": 2, "keys_in_cooldown": [1], "answered": 8, "failed": 3,
            } },
            "streams": {
                "req_a": { "start": 0, "client": "team-a", "model": "gpt-4o", "upstream": "openai", "phase": "stream",
                    "first_token": 412, "rate": 41.5, "last": 89_900, "attempts": 1 },
                "req_b": { "start": 30_000, "client": "team-b", "model": "\u{1b}[2J", "upstream": "openai", "phase": "stream",
                    "rate": 0.0, "last": 40_000, "attempts": 2 },
            },
        })
    }

    fn drawn(size: Size, colours: bool, sort: Sort) -> String {
        Picture { state: &state(), now: 90_000, size, colours }.draw(sort, |_| true)
    }

    const WIDE: Size = Size { columns: 160, lines: 50 };

    #[test]
    fn a_picture_has_a_headline_what_is_wrong_and_the_requests() {
        assert_eq!(
            drawn(WIDE, false, Sort::Silence),
            "sluicegate 0.2.0  ready  generation 3  2 in flight  41.5 tok/s  9 finished  1 failed  1 broken off
! provider: openai: circuit breaker open at 1 of 2 targets
  openai         1 of 2 targets up  1 of 2 keys usable  2 pending  8 answered  3 failed

     AGE CLIENT         MODEL                  UPSTREAM     PHASE        FIRST  TOK/S  SILENT TRY REQUEST
    60 s team-b         \u{fffd}[2J                   openai       stream                0.0    50 s   2 req_b
    90 s team-a         gpt-4o                 openai       stream      412 ms   41.5  100 ms   1 req_a
"
        );
    }

    #[test]
    fn wide_letters_take_two_columns_and_marks_none() {
        assert_eq!((width_of("模型-a"), width_of("e\u{301}"), width_of("🚀")), (6, 1, 2));
        assert_eq!((cut_to("模型", 3).as_str(), cut_to("模型", 4).as_str()), ("模", "模型"));
        assert_eq!(cell("模型模型模型模型", &COLUMNS[1]), "模型模型模型模".to_owned());
        assert_eq!(width_of(&cell("模", &COLUMNS[0])), COLUMNS[0].width);
    }

    #[test]
    fn it_keeps_to_the_terminal() {
        let small = Size { columns: 80, lines: 7 };
        let text = drawn(small, false, Sort::Age);
        assert!(text.lines().count() <= small.lines, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= small.columns), "{text}");
        assert!(text.contains("and 1 more"), "{text}");
        for lines in 1..7 {
            let tiny = drawn(Size { columns: 80, lines }, false, Sort::Age);
            assert_eq!(tiny.lines().count(), lines, "{tiny}");
        }
        let painted = drawn(WIDE, true, Sort::Age);
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), drawn(WIDE, false, Sort::Age));
    }
}
