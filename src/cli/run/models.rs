//! Which models go to which provider, when a run serves several.

use std::collections::{BTreeMap, BTreeSet};

use super::providers::Provider;

/// The most names and beginnings of names that get a rule. Models beyond it go to the first provider.
const MOST_RULES: usize = 500;

/// The longest name of a model that the configuration takes, in characters.
const LONGEST_NAME: usize = 256;

/// A model, or all models whose names begin so, and the provider that they go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// The name of a `[model]` table: that of a model, or a beginning and `*`.
    pub(super) name: String,
    /// Index into the providers.
    pub(super) provider: usize,
}

/// The rules for several providers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// In the order of the providers, at most 500.
    pub(super) rules: Vec<Rule>,
    /// How many more names would be needed.
    pub(super) left_out: usize,
}

/// Tells the models of `providers` apart by what each lists. A name that two of them list belongs to the first. What has no rule goes to the
/// first provider, so rules are made only for names that would otherwise go to another provider than their own.
pub(super) fn rules(providers: &[Provider], listed: &[Vec<String>]) -> Rules {
    let owners = owners(listed);
    let mut beginnings: BTreeMap<String, usize> = BTreeMap::new();
    for (index, provider) in providers.iter().enumerate().skip(1) {
        for beginning in provider.beginnings {
            beginnings.entry((*beginning).to_owned()).or_insert(index);
        }
    }
    for (vendor, index) in vendors(&owners) {
        beginnings.entry(vendor.to_owned()).or_insert(index);
    }
    beginnings.retain(|_, index| *index > 0);
    let rule = |name: String, provider: usize| Rule { name, provider };
    let by_beginning = beginnings.iter().map(|(beginning, index)| rule(format!("{beginning}*"), *index));
    let exceptions = owners.iter().filter(|(name, index)| leads_to(&beginnings, name) != **index);
    let by_name = exceptions.map(|(name, index)| rule((*name).to_owned(), *index));
    let mut rules: Vec<Rule> = by_beginning.chain(by_name).collect();
    let left_out = rules.len().saturating_sub(MOST_RULES);
    rules.truncate(MOST_RULES);
    rules.sort_by_key(|rule| rule.provider);
    Rules { rules, left_out }
}

/// Each name, and the first provider that lists it.
fn owners(listed: &[Vec<String>]) -> BTreeMap<&str, usize> {
    let mut owners = BTreeMap::new();
    for (index, names) in listed.iter().enumerate() {
        for name in names.iter().filter(|name| is_usable(name)) {
            owners.entry(&**name).or_insert(index);
        }
    }
    owners
}

/// The parts before a slash of the names, where only one provider has models whose names begin so.
fn vendors<'a>(owners: &BTreeMap<&'a str, usize>) -> Vec<(&'a str, usize)> {
    let mut found: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (name, index) in owners {
        if let Some(slash) = name.find('/')
            && let Some(vendor) = name.get(..=slash)
        {
            found.entry(vendor).or_default().insert(*index);
        }
    }
    let alone = found.into_iter().filter(|(_, indices)| indices.len() == 1);
    alone.flat_map(|(vendor, indices)| indices.into_iter().map(move |index| (vendor, index))).collect()
}

/// Where a request for this model would go by the beginnings alone.
fn leads_to(beginnings: &BTreeMap<String, usize>, name: &str) -> usize {
    let fitting = beginnings.iter().filter(|(beginning, _)| name.starts_with(&***beginning));
    fitting.max_by_key(|(beginning, _)| beginning.len()).map_or(0, |(_, index)| *index)
}

/// Whether a name can be that of a `[model]` table. A provider may list anything.
fn is_usable(name: &str) -> bool {
    let is_plain = |c: char| c != '*' && c.escape_debug().len() == 1;
    !name.is_empty() && name.chars().count() <= LONGEST_NAME && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::{super::providers::in_environment, *};

    fn rules_for(variables: &[&str], listed: &[&[&str]]) -> Vec<String> {
        let providers = in_environment(|name| variables.contains(&name).then(|| "key".to_owned()));
        assert_eq!(providers.len(), variables.len());
        let listed: Vec<Vec<String>> =
            listed.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect();
        let rules = rules(&providers, &listed);
        assert_eq!(rules.left_out, 0);
        rules.rules.iter().map(|rule| format!("{} {}", rule.name, providers[rule.provider].name)).collect()
    }

    #[test]
    fn one_provider_needs_no_rule() {
        assert_eq!(rules_for(&["GROQ_API_KEY"], &[&["a", "b"]]), Vec::<String>::new());
    }

    #[test]
    fn beginnings_of_the_documentation_hold_whatever_is_listed() {
        let rules = rules_for(
            &["OPENAI_API_KEY", "DEEPSEEK_API_KEY", "XAI_API_KEY"],
            &[&["gpt-4o"], &[], &["grok-4"]],
        );
        assert_eq!(rules, ["deepseek-* deepseek", "grok-* xai"]);
    }

    #[test]
    fn a_name_that_two_list_belongs_to_the_first() {
        let listed: [&[&str]; 3] = [
            &["llama-3.1-8b", "deepseek-r1-distill", "openai/gpt-oss"],
            &["deepseek-chat", "llama-3.1-8b", "other"],
            &["other", "third"],
        ];
        let rules = rules_for(&["GROQ_API_KEY", "DEEPSEEK_API_KEY", "TOGETHER_API_KEY"], &listed);
        assert_eq!(
            rules,
            ["deepseek-r1-distill groq", "deepseek-* deepseek", "other deepseek", "third together"]
        );
    }

    #[test]
    fn a_makers_part_of_the_name_is_enough_where_one_provider_has_it() {
        let listed: [&[&str]; 3] = [
            &["gpt-4o"],
            &["openai/gpt-4o", "anthropic/claude", "meta-llama/llama-4", "meta-llama/llama-3"],
            &["openai/gpt-oss", "llama-3.1-8b", "meta-llama/llama-4"],
        ];
        let rules = rules_for(&["OPENAI_API_KEY", "OPENROUTER_API_KEY", "GROQ_API_KEY"], &listed);
        let expected = [
            "anthropic/* openrouter",
            "meta-llama/* openrouter",
            "openai/gpt-4o openrouter",
            "llama-3.1-8b groq",
            "openai/gpt-oss groq",
        ];
        assert_eq!(rules, expected);
    }

    #[test]
    fn what_cannot_be_a_name_is_left_out_and_there_is_an_end() {
        let providers =
            in_environment(|name| ["OPENAI_API_KEY", "GROQ_API_KEY"].contains(&name).then(String::new));
        let many: Vec<String> = (0..600).map(|number| format!("m{number}")).collect();
        let odd = ["", "a*", "a\"b", "a\\b", "a\nb"].map(str::to_owned);
        let listed = vec![Vec::new(), odd.into_iter().chain(many).collect()];
        let rules = rules(&providers, &listed);
        assert_eq!((rules.rules.len(), rules.left_out), (500, 100));
        assert!(rules.rules.iter().all(|rule| rule.name.starts_with('m')));
    }
}
