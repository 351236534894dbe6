//! The shipped rules, as far as tests have to read them: alerts with their severities and expressions, and the arms of an `or`.

use std::fs;

use crate::docs::page::root;

/// One alert.
#[derive(Debug, Clone)]
pub struct Alert {
    pub name: String,
    pub severity: String,
    pub expression: String,
}

/// The text of a file of rules.
pub fn read(file: &str) -> String {
    let path = root().join("deploy/prometheus").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All alerts; one name may have several severities.
pub fn alerts() -> Vec<Alert> {
    let text = read("alerts.yaml");
    let blocks = text.split("- alert: ").skip(1);
    let alerts = blocks.map(|block| {
        let name = block.lines().next().unwrap().trim().to_owned();
        let severity = block.split("severity: ").nth(1).unwrap().split([' ', '}', '\n']).next().unwrap();
        let [expression] = expressions(block).try_into().unwrap_or_else(|found| panic!("{name}: {found:?}"));
        Alert { severity: severity.to_owned(), expression, name }
    });
    alerts.collect()
}

/// Each expression of a file of rules, on one line.
pub fn expressions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim_start().strip_prefix("expr:") else { continue };
        let mut expression = expression.trim().trim_start_matches('|').trim().to_owned();
        let indent = line.len() - line.trim_start().len();
        while let Some(more) = lines.next_if(|more| more.len() - more.trim_start().len() > indent) {
            expression = format!("{expression} {}", more.trim());
        }
        found.push(expression.trim().to_owned());
    }
    found
}

/// What stands on either side of each `or` that is not in parentheses or in a text.
pub fn arms(expression: &str) -> Vec<String> {
    let (mut arms, mut depth, mut is_text, mut begin) = (Vec::new(), 0, false, 0);
    for (at, letter) in expression.char_indices() {
        match letter {
            '"' => is_text = !is_text,
            '(' | '{' | '[' if !is_text => depth += 1,
            ')' | '}' | ']' if !is_text => depth -= 1,
            'o' if !is_text
                && depth == 0
                && expression[..at].ends_with(' ')
                && expression[at..].starts_with("or ") =>
            {
                arms.push(expression[begin..at].trim().to_owned());
                begin = at + 2;
            }
            _ => {}
        }
    }
    arms.push(expression[begin..].trim().to_owned());
    arms
}

#[test]
fn an_or_parts_an_expression_unless_it_is_within() {
    assert_eq!(
        arms(r#"a{b="x or y"} > 0 or (c or d) or max by (e) (f)"#),
        [r#"a{b="x or y"} > 0"#, "(c or d)", "max by (e) (f)"]
    );
    assert_eq!(arms("floor or_total"), ["floor or_total"]);
}

#[test]
fn alerts_are_read_with_their_severities() {
    let alerts = alerts();
    let certificates: Vec<&str> = alerts
        .iter()
        .filter(|alert| alert.name == "SluicegateCertificateEnds")
        .map(|alert| &*alert.severity)
        .collect();
    assert_eq!(certificates, ["warning", "critical"]);
    assert_eq!(alerts.len(), read("alerts.yaml").matches("expr:").count());
}
