use std::{collections::HashSet, time::Duration};

use super::*;
use crate::fault::Mistake;

const LOCALES: [Locale; 1] = [Locale::En];

fn placeholders(template: &str) -> Vec<&str> {
    template.split('{').skip(1).map(|rest| rest.split_once('}').expect("a placeholder is closed").0).collect()
}

#[test]
fn every_fault_has_a_text_and_every_text_a_fault() {
    let keys: HashSet<_> = Fault::examples().iter().map(Fault::text).collect();
    // Each row of the table has its own text, and an example that reaches this row.
    assert_eq!(keys.len(), Fault::examples().len());
    for locale in LOCALES {
        let texts: HashSet<_> = locale.templates().keys().map(String::as_str).collect();
        assert_eq!(texts, keys, "{locale:?}");
    }
}

#[test]
fn every_text_is_sentences_and_has_its_arguments_for_placeholders() {
    for locale in LOCALES {
        for fault in Fault::examples() {
            let template = &locale.templates()[fault.text()];
            let arguments: HashSet<_> = fault.arguments().iter().map(|argument| argument.name).collect();
            let placeholders: HashSet<_> = placeholders(template).into_iter().collect();
            assert!(template.ends_with('.') && !template.contains("  "), "{template:?}");
            assert_eq!(placeholders, arguments, "{template:?}");
        }
    }
}

#[test]
fn arguments_are_put_in_as_they_are() {
    let mistake = Box::new(Mistake::Unknown);
    let route = Fault::NoRoute { method: "GET".into(), path: "/{method}".into(), mistake };
    assert!(route.message(Locale::En).contains(" GET /{method} "), "{route}");
    assert!(route.to_string().ends_with(". (docs/errors#route_not_found)"), "{route}");
    assert!(Fault::Idle(Duration::from_millis(1500)).to_string().contains(" 1.5 s"));
    assert!(Fault::BodyStalled(Duration::from_secs(60)).to_string().contains(" 60 s"));
    assert!(Fault::Full(Duration::from_millis(1500)).to_string().contains(" 2 s"));
}
