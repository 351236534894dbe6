#[path = "../../../tests/it/keys/key_forms.rs"]
mod key_forms;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

pub(in crate::policy) use key_forms::form;

use super::*;

fn watching(key: &str) -> SecretScanner<'_> {
    SecretScanner::new([key.as_bytes()])
}

#[test]
fn what_a_login_looks_like() {
    let key = "sk-proj-a+b/c_d";
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{key}")));
    for text in [key, "Bearer sk-proj-a+b/c_d", &basic, "realtime, openai-insecure-api-key.sk-proj-a+b/c_d"] {
        assert!(watching(key).found_in(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "sk-proj-a+b/c_",
        "k-proj-a+b/c_d",
        "Bearer sk-proj-a b/c_d",
        "%73%6b%2d",
        "%%%%%%%%%%%%%%%%%%%%",
    ] {
        assert!(!watching(key).found_in(text.as_bytes()), "{text}");
    }
}

#[test]
fn no_keys_no_crossing() {
    for secrets in [SecretScanner::default(), SecretScanner::new([]), SecretScanner::new([&b""[..]])] {
        assert!(
            !secrets.found_in(b"")
                && !secrets.found_in(b"anything")
                && !secrets.in_names().found_in("anything")
        );
    }
}

#[test]
fn short_keys_are_whole_values() {
    let dev = watching("dev");
    for text in [
        "dev",
        "Bearer dev",
        "Basic ZGV2",
        "Basic OmRldg==",
        "Basic dTpkZXY",
        "Basic ZGV2Og",
        "d%65v",
        "%2564ev",
    ] {
        assert!(dev.found_in(text.as_bytes()), "{text}");
    }
    for text in ["devices", "dev build", "my-dev", "developer", "application/dev", "ZGV2aWNl"] {
        assert!(!dev.found_in(text.as_bytes()), "{text}");
    }
    assert!(dev.in_names().found_in("dev") && !dev.in_names().found_in("x-dev"));
}

#[test]
fn nothing_is_shown() {
    assert_eq!(format!("{:?}", watching("sk-very-secret")), "SecretScanner { keys: 1, .. }");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_form_anywhere_is_found(
        key in "[!-~]{8,64}", form in form(), inside in "[ -~]{0,9}", outside in "[A-Za-z0-9+/=_ -]{0,9}"
    ) {
        let text = format!("{outside}{}{outside}", form.write(&key, &inside, &inside));
        prop_assert!(watching(&key).found_in(text.as_bytes()), "{}", text);
        prop_assert!(watching(&key).into_owned().found_in(text.as_bytes()), "{}", text);
    }

    #[test]
    fn each_of_several_keys_is_found(keys in prop::collection::vec("[!-$&-~]{8,40}", 1..5), pick in any::<prop::sample::Index>(), form in form()) {
        let all = SecretScanner::new(keys.iter().map(String::as_bytes));
        let text = form.write(pick.get::<String>(&keys), "", "");
        prop_assert!(all.found_in(text.as_bytes()), "{}", text);
    }

    #[test]
    fn a_name_carries_it_in_any_case(key in "[!#$&'*+.^_`|~0-9A-Za-z-]{8,40}", form in form(), before in "[a-z-]{0,5}") {
        let name = format!("{before}{}", form.write(&key, "", ""));
        prop_assert!(watching(&key).in_names().found_in(&name.to_ascii_lowercase()), "{}", name);
    }

    #[test]
    fn ordinary_texts_do_not(key in "sk-[A-Za-z0-9]{20,40}", text in "[ -~]{0,200}") {
        prop_assert!(!watching(&key).found_in(text.as_bytes()));
        prop_assert!(!watching(&key).found_in(STANDARD.encode(&text).as_bytes()));
        prop_assert!(!watching(&key).in_names().found_in(&text));
    }

    #[test]
    fn another_key_does_not(key in "[A-Za-z0-9]{16,40}", form in form(), at in any::<prop::sample::Index>()) {
        // One character in the middle differs.
        let at = 1 + at.index(key.len() - 2);
        let other: String = key.chars().enumerate().map(|(i, c)| if i == at { '~' } else { c }).collect();
        prop_assert!(!watching(&key).found_in(form.write(&other, "", "").as_bytes()));
    }
}
