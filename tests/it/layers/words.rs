//! The program uses the field's words: the private names that its types once had do not come back.

use super::{program, source::Source};

/// Names that a type, and in lower case a file, must not have: they say nothing about what they name, or the field has a term for it.
const HOUSE_WORDS: [&str; 51] = [
    "Again",
    "Apart",
    "Asked",
    "Been",
    "Bell",
    "Bench",
    "Call",
    "Crossing",
    "Desk",
    "Door",
    "Entrance",
    "Errand",
    "Failed",
    "Fuse",
    "Happened",
    "Line",
    "Link",
    "Lowered",
    "Occasion",
    "Order",
    "Part",
    "Pass",
    "Passage",
    "Passing",
    "Patience",
    "Place",
    "Places",
    "Post",
    "Pulse",
    "Question",
    "Recall",
    "Reception",
    "Refusal",
    "Rest",
    "Ringing",
    "Rung",
    "Seat",
    "Seen",
    "Shelf",
    "Shown",
    "Sight",
    "Signal",
    "Slots",
    "Standing",
    "Station",
    "Stripe",
    "Told",
    "Trail",
    "Unanswered",
    "Unheld",
    "Verdict",
];

/// Functions that had such names. (Other words of the list are good names for functions.)
const FUNCTIONS: [&str; 2] = ["pass", "told"];

#[test]
fn no_house_word_names_a_type_a_function_or_a_file() {
    let mut found = Vec::new();
    for file in program() {
        let path = file.path.display();
        let defined = house_words_in(&file.source);
        found.extend(defined.into_iter().map(|name| format!("src/{path} defines {name}")));
        let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap();
        if HOUSE_WORDS.iter().any(|word| word.eq_ignore_ascii_case(stem)) {
            found.push(format!("src/{path} is called {stem}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn definitions_with_house_words_are_found() {
    let source = Source::of(
        "pub(super) struct Place<'a>(&'a u8); fn pass() {} enum Kind { Order } fn call() { told() } // struct Link
        let text = \"struct Watch\"; use other::Sight; type Rest = u8;",
    );
    assert_eq!(house_words_in(&source), ["Place", "Rest", "pass"]);
}

fn house_words_in(source: &Source) -> Vec<&'static str> {
    HOUSE_WORDS.into_iter().chain(FUNCTIONS).filter(|name| source.defines(name)).collect()
}
