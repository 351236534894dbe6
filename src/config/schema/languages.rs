//! `languages`: of error messages.

use crate::{
    config::{
        declare::{Context, Kind as _, Or, ParseAs, Shape, parse_as},
        naming::{shown, suggestion},
        problem::{Complaint, complaint},
        reader::Node,
    },
    fault::{Language, Languages},
};

/// `languages` of `[defaults]` or a route.
pub(super) fn languages() -> Or<ParseAs<Languages>> {
    parse_as(shape, read).written_as("[\"en\"]").or(Languages::default())
}

/// The language with this tag.
pub(super) fn language(tag: &str) -> Result<Language, Complaint> {
    Language::named(tag).filter(|language| language.tag() == tag).ok_or_else(|| {
        let tags = || Language::all().map(Language::tag);
        let known: Vec<String> = tags().map(|tag| format!("{tag:?}")).collect();
        // The likely slip is a region: the messages are the same for all of them.
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        let help = match Language::named(primary) {
            Some(known) => format!("write {:?}", known.tag()),
            None => {
                suggestion(tag, tags()).unwrap_or_else(|| format!("the languages are {}", known.join(", ")))
            }
        };
        complaint(format!("there are no messages in the language {}", shown(tag, "of this name")), help)
    })
}

fn shape() -> Shape {
    Shape::List(Box::new(Shape::Choice(Language::all().map(Language::tag).collect())))
}

fn read(node: &Node<'_>, _: &Context<'_>) -> Option<Languages> {
    let mut languages: Option<Languages> = None;
    for item in node.some_items(r#"for example ["en", "zh"]; the first one is the default"#)? {
        let Some(language) = item.parse(language) else { continue };
        if languages.is_some_and(|languages| languages.iter().any(|other| other == language)) {
            item.fail(complaint("is in this list twice", "remove one of the two"));
        }
        languages = Some(languages.map_or_else(|| Languages::of(language), |others| others.and(language)));
    }
    languages
}
