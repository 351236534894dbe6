//! Any text as a configuration.
//!
//! - Nothing panics; a text is refused with at least one problem, in the text's order, each at a place that the text has.
//! - A secret that the text refers to is in no problem, no warning, not in what `/config` shows and not in any `Debug`.
//! - A key that was pasted into the text at any two places is in no problem and no warning.
//!
//! Input: four bytes that say where a key is pasted, then the text.

use std::{ffi::OsString, path::Path};

use sluicegate::config::{Config, Env, Problem, Problems, parse};

/// What every variable holds.
const SECRET: &str = "sk-upstream-Zx81yBq7Lm42Kd93";
const PASTED: &str = "sk-proj-Qw04Tn96Vc57Hs28";

pub fn check(data: &[u8]) {
    let Some((&[a, b, c, d], text)) = data.split_first_chunk::<4>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // Reading from a device may take for ever.
    if ["/dev", "/proc", "/sys", "\\u", "\\U", "\\x", SECRET, PASTED].iter().any(|odd| text.contains(odd)) {
        return;
    }
    look_at(text, &read(text));
    let once = paste(text, [a, b], "");
    // Not the same once more: what is nearly the same is suggested.
    let with_key = paste(&once, [c, d], "x");
    let read = read(&with_key);
    look_at(&with_key, &read);
    let told = told(&read);
    assert!(!told.contains(PASTED), "{told}");
}

fn paste(text: &str, place: [u8; 2], end: &str) -> String {
    let at = usize::from(u16::from_le_bytes(place)) % (text.len() + 1);
    let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    [&text[..at], PASTED, end, &text[at..]].concat()
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let variable = |name: &str| (name != "CREDENTIALS_DIRECTORY").then(|| OsString::from(SECRET));
    parse(text, &Env::new("/nonexistent", &variable))
}

fn look_at(text: &str, read: &Result<Config, Vec<Problem>>) {
    let told = told(read);
    assert!(!told.contains(SECRET), "{told}");
    let problems = match read {
        Ok(config) => {
            assert!(!config.redacted.to_string().contains(SECRET), "{}", config.redacted);
            let debug = format!("{config:?}");
            assert!(!debug.contains(SECRET), "{debug}");
            &config.warnings
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused for no reason");
            problems
        }
    };
    // As an editor counts them.
    let lines: Vec<&str> = text.split('\n').collect();
    for Problem { line, column, message, .. } in problems {
        let length = lines.get(line.wrapping_sub(1)).map(|line| line.chars().count());
        let length = length.unwrap_or_else(|| panic!("line {line} of {}: {message}", lines.len()));
        assert!((1..=length + 1).contains(column), "column {column} of {length} in line {line}: {message}");
    }
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)), "{problems:?}");
}

/// Everything that is printed or logged about it.
fn told(read: &Result<Config, Vec<Problem>>) -> String {
    let file = Path::new("gateway.toml").to_owned();
    let problems = match read {
        Ok(config) => config.warnings.clone(),
        Err(problems) => problems.clone(),
    };
    let problems = Problems { file, problems };
    format!("{problems} {problems:?}")
}
