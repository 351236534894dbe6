//! What is made from the declarations of the keys: the shipped `gateway.toml`, its reference page, and a JSON Schema.

mod json_schema;
mod reference;
mod sample;

#[cfg(test)]
pub(crate) use json_schema::{SIZE, SPAN};
pub use json_schema::{schema_json, schema_text};
pub use reference::reference;
pub use sample::sample;

/// Lines of at most so many characters, unless a word is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
