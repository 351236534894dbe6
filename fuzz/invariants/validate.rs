//! The check of requests, for each operation and level.
//!
//! - Nothing panics, whatever the bytes are.
//! - A request that passes has the same facts as without the check.
//! - A request without facts does not pass; one that is not JSON is told so.
//! - What "basic" refuses, "strict" refuses too.
//! - No error holds anything of the body, and a parameter is made of names that the program knows, and indexes.
//!
//! That the time is linear is held by a unit test, which counts the bytes that are read again. Input: the body.

use sluicegate::openai::{Check, CheckError, Endpoint, Facts, FactsError, Level};

const OPERATIONS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
];

/// A word that no name has in it.
const MARK: &str = "Zx81yBq7";

pub fn check(body: &[u8]) {
    let facts = Facts::read(body);
    for endpoint in OPERATIONS {
        let passes = |level| {
            let checked = Check::of(endpoint, level).expect("a check").read(body);
            agrees(checked.as_ref(), facts.as_ref());
            checked.is_ok()
        };
        let (basic, strict) = (passes(Level::Basic), passes(Level::Strict));
        assert!(basic || !strict, "{endpoint:?}");
    }
}

fn agrees(checked: Result<&Facts, &CheckError>, facts: Result<&Facts, &FactsError>) {
    match (checked, facts) {
        (Ok(checked), Ok(facts)) => assert_eq!(checked, facts),
        (Ok(_), Err(error)) => panic!("passes, but has no facts: {error:?}"),
        (Err(CheckError::Invalid(invalid)), facts) => {
            // Only nesting ends the reading of what is not JSON further on.
            let is_deep = format!("{:?}", invalid.problem).starts_with("TooDeep");
            assert!(is_deep || !matches!(facts, Err(FactsError::NotJson { .. } | FactsError::Empty)));
            let param = invalid.param().unwrap_or_default();
            let is_of_names =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.[]".contains(&byte);
            assert!(param.bytes().all(is_of_names), "{param}");
            assert!(!format!("{invalid} {invalid:?}").contains(MARK));
        }
        (Err(CheckError::Unreadable(error)), facts) => {
            assert!(facts.is_err(), "{error:?}, but has facts");
            assert!(!error.to_string().contains(MARK));
        }
    }
}
