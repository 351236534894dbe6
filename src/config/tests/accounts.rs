//! Accounts of keys and targets.

use super::{one_problem, sound, with};
use crate::config::KeyAccount;

const KEY: &str = r#"key = { env = "OPENAI_API_KEY" }"#;

fn accounts(keys: &str) -> Vec<KeyAccount> {
    sound(&with(KEY, keys)).upstreams["openai"].key_accounts.clone()
}

#[test]
fn an_account_is_named_by_the_file_and_never_by_the_secret() {
    let own = KeyAccount::Own("env:OPENAI_API_KEY".to_owned());
    assert_eq!(accounts(KEY), std::slice::from_ref(&own));
    let main = KeyAccount::Named("main".into());
    assert_eq!(
        accounts(r#"key = { env = "OPENAI_API_KEY", account = "main" }"#),
        std::slice::from_ref(&main)
    );
    let both = r#"keys = [{ account = "main", env = "OPENAI_API_KEY" }, { env = "OPENAI_API_KEY" }]"#;
    assert_eq!(accounts(both), [main, own]);
    assert_eq!(accounts(r#"auth = "none""#), []);
}

#[test]
fn a_target_may_name_an_account() {
    let targets = r#"targets = [{ url = "https://a", account = "eu" }, { url = "https://b" }]"#;
    let config = sound(&with(r#"url = "https://api.openai.com""#, targets));
    let named: Vec<_> = config.upstreams["openai"].targets.iter().map(|one| one.account.as_deref()).collect();
    assert_eq!(named, [Some("eu"), None]);
}

#[test]
fn what_is_no_account_is_refused() {
    let problem = |key: &str| one_problem(&with(KEY, key));
    let expected = "upstream.openai.key.account: is not a valid name";
    assert!(problem(r#"key = { env = "OPENAI_API_KEY", account = "a b" }"#).starts_with(expected));
    let expected = "upstream.openai.key.account: ";
    assert!(problem(r#"key = { env = "OPENAI_API_KEY", account = 1 }"#).starts_with(expected));
    let twice = problem(r#"key = { env = "OPENAI_API_KEY", file = "x", account = "a" }"#);
    assert!(twice.contains("exactly one of the keys `env`, `file` and `credential`"), "{twice}");
    let none = problem(r#"key = { account = "a" }"#);
    assert!(none.contains("exactly one of the keys `env`, `file` and `credential`"), "{none}");
    let elsewhere = one_problem(&with(
        "[upstream.openai]",
        "[admin]\naddress = \"127.0.0.1:1\"\ntoken = { env = \"OPENAI_API_KEY\", account = \"a\" }\n[upstream.openai]",
    ));
    assert!(elsewhere.starts_with("admin.token.account: unknown key"), "{elsewhere}");
}

#[test]
fn accounts_of_targets_need_one_account_of_the_keys() {
    let text = with(KEY, r#"keys = [{ env = "OPENAI_API_KEY" }, { credential = "other" }]"#);
    let targets = r#"targets = [{ url = "https://a", account = "eu" }]"#;
    let folder = super::Folder::new();
    folder.write("other", "sk-other-Zx81yBq7");
    let text = text.replace(r#"url = "https://api.openai.com""#, targets);
    let problems = super::read_in(&folder.0, &text).expect_err("several accounts");
    let messages: Vec<&str> = problems.iter().map(|problem| &*problem.message).collect();
    assert_eq!(messages, ["names accounts, although the keys are of several accounts"]);
}
