use proptest::prelude::*;

use super::*;
use crate::openai::{FactsError, json::REWOUND};

const OPERATIONS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
];

fn strict(endpoint: Endpoint, body: &str) -> Result<Facts, CheckError> {
    Check::of(endpoint, Level::Strict).unwrap().read(body.as_bytes())
}

/// Code and parameter of what is wrong; empty if nothing is.
fn wrong(endpoint: Endpoint, body: &str) -> String {
    strict(endpoint, body).err().map(|error| error.to_string()).unwrap_or_default()
}

fn chat(members: &str) -> String {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],{members}}}"#);
    wrong(Endpoint::ChatCompletions, &body)
}

fn message(message: &str) -> String {
    wrong(Endpoint::ChatCompletions, &format!(r#"{{"model":"m","messages":[{message}]}}"#))
}

#[test]
fn names_that_are_written_with_escapes_are_the_same_names() {
    assert_eq!(message(r#"{"r\u006fle":"us\u0065r","content":"Hi"}"#), "");
    assert_eq!(message(r#"{"r\u006fle":"us\u0065rs","content":"Hi"}"#), "invalid_value of messages[0].role");
    let twice = r#"{"role":"user","content":"Hi","\u0063ontent":"Bye"}"#;
    assert_eq!(message(twice), "invalid_body of messages[0].content");
    assert_eq!(chat(r#""mod\u0065l":"n""#), "invalid_body of model");
    assert_eq!(
        chat(r#""tools":[{"type":"function","function":{"name":"a\u0062"}}]"#),
        "",
        "a name may be escaped"
    );
}

#[test]
fn an_object_of_a_type_that_is_not_known_is_not_checked_wherever_the_type_stands() {
    let part = |part: &str| message(&format!(r#"{{"role":"user","content":[{part}]}}"#));
    for unknown in [
        r#"{"type":"video_url","text":1,"image_url":"x"}"#,
        r#"{"text":1,"image_url":{"a":[{}]},"type":"video_url"}"#,
        r#"{"text":1,"type":"video\u005furl"}"#,
    ] {
        assert_eq!(part(unknown), "", "{unknown}");
    }
    assert_eq!(part(r#"{"text":1,"type":"text"}"#), "invalid_type of messages[0].content[0].text");
    // A reader that takes the other one sees another object.
    let twice = r#"{"text":1,"type":"video_url","type":"text"}"#;
    assert_eq!(part(twice), "invalid_type of messages[0].content[0].text");
    let twice = r#"{"type":"text","type":"video_url","text":"x"}"#;
    assert_eq!(part(twice), "invalid_body of messages[0].content[0].type");
}

/// How a message begins in an unusual way does not matter, whatever follows.
#[test]
fn usual_messages_are_checked_as_any_others() {
    let contents = [
        r#""Hi""#,
        r#""""#,
        "null",
        "1",
        "[]",
        r#"[{"type":"text","text":"Hi"}]"#,
        r#"[{"type":"text"}]"#,
        "{",
        r#""Hi"#,
    ];
    let members = [
        "",
        r#","content":1"#,
        r#","role":"user""#,
        r#","name":1"#,
        r#","type":"message""#,
        r#","type":1"#,
        ",",
    ];
    let check = |endpoint, level, list: &str, beginning: &str, rest: &str| {
        let body =
            format!(r#"{{"model":"m","max_tokens":1,"{list}":[{beginning}{rest}}},{beginning}{rest}}}]}}"#);
        let read = Check::of(endpoint, level).unwrap().read(body.as_bytes());
        match read {
            // The places in it are its own.
            Err(CheckError::Unreadable(FactsError::NotJson { .. })) => Err("not JSON".to_owned()),
            Err(error) => Err(format!("{error} {error:?}")),
            Ok(facts) => Ok(facts.model),
        }
    };
    for (endpoint, list) in [
        (Endpoint::ChatCompletions, "messages"),
        (Endpoint::Messages, "messages"),
        (Endpoint::Responses, "input"),
    ] {
        for (role, level) in [
            ("user", Level::Basic),
            ("assistant", Level::Basic),
            ("user", Level::Strict),
            ("assistant", Level::Strict),
        ] {
            let unusual = format!(r#"{{ "role" :"{role}","content":"#);
            let usual =
                [format!(r#"{{"role":"{role}","content":"#), format!(r#"{{"role": "{role}", "content": "#)];
            for (content, member) in
                contents.iter().flat_map(|content| members.map(|member| (content, member)))
            {
                let rest = format!("{content}{member}");
                let expected = check(endpoint, level, list, &unusual, &rest);
                for usual in &usual {
                    let checked = check(endpoint, level, list, usual, &rest);
                    assert_eq!(checked, expected, "{usual}{rest}");
                }
            }
        }
    }
}

#[test]
fn the_last_problem_of_a_list_does_not_hide_what_comes_first() {
    let messages = r#"{"role":"user","content":1},{"role":"bot"}"#;
    assert_eq!(message(messages), "invalid_type of messages[0].content");
}

#[test]
fn what_is_not_json_is_told_before_what_is_wrong() {
    for body in [r#"{"model":1,"messages":[],"x":}"#, r#"{"model":"m","messages":[{"role":"bot"]}"#] {
        let error = strict(Endpoint::ChatCompletions, body).unwrap_err();
        assert!(matches!(error, CheckError::Unreadable(FactsError::NotJson { .. })), "{error:?}");
    }
}

#[test]
fn lengths_are_counted_in_characters() {
    let identifier = |text: &str| chat(&format!(r#""safety_identifier":"{text}""#));
    let too_long = "string_above_max_length of safety_identifier";
    for (unit, times) in [("é", 64), ("😀", 64), (r"\u00e9", 64), (r"\ud83d\ude00", 64), (r"\n", 64)] {
        assert_eq!(identifier(&unit.repeat(times)), "", "{unit}");
        assert_eq!(identifier(&unit.repeat(times + 1)), too_long, "{unit}");
    }
}

#[test]
fn numbers_are_whole_if_their_value_is() {
    for (number, is_whole) in [("1.0", true), ("1e2", true), ("1.5", false), ("128.0", true), ("1E-1", false)]
    {
        let expected = if is_whole { "" } else { "invalid_type of n" };
        assert_eq!(chat(&format!(r#""n":{number}"#)), expected, "{number}");
    }
    assert_eq!(chat(r#""n":129.0"#), "integer_above_max_value of n");
    assert_eq!(chat(r#""seed":18446744073709551615"#), "integer_above_max_value of seed");
}

#[test]
fn the_bounds_are_allowed() {
    let members = r#""temperature":2,"top_p":0,"n":128,"presence_penalty":-2.0,"stop":["a","b","c","d"],
        "logprobs":true,"top_logprobs":20,"logit_bias":{"1":100,"2":-100}"#;
    assert_eq!(chat(members), "");
}

#[test]
fn a_model_that_is_named_elsewhere_may_be_missing() {
    let check = Check::of(Endpoint::ChatCompletions, Level::Basic).unwrap();
    let body = br#"{"messages":[{"role":"user"}]}"#;
    assert_eq!(check.read(body).unwrap_err().to_string(), "missing_required_parameter of model");
    assert!(check.without_model().read(body).is_ok());
}

#[test]
fn nesting_is_counted_from_the_body_on() {
    let nested = |depth: usize| chat(&format!(r#""x":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    // An innermost array that is empty holds nothing.
    assert_eq!(nested(DEPTH_LIMIT), "");
    assert_eq!(nested(DEPTH_LIMIT + 1), "invalid_body of the body");
    let within = |depth: usize| {
        let schema = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        chat(&format!(r#""tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]"#))
    };
    // The body, the tools, a tool, its function.
    assert_eq!(within(DEPTH_LIMIT - 4), "");
    assert_eq!(within(DEPTH_LIMIT - 3), "invalid_body of the body");
}

#[test]
fn tools_are_noted_as_without_the_check() {
    for tools in [
        r#"[{"type":"mcp","server_label":"s"}]"#,
        r#"[{"type":"web_search"}]"#,
        r#"[{"name":1,"type":"mcp_toolset"}]"#,
        r#"[{"name":"f","type":"function"}]"#,
        "[]",
        "null",
    ] {
        let body = format!(r#"{{"model":"m","input":"Hi","tools":{tools}}}"#);
        let facts = Facts::read(body.as_bytes()).unwrap();
        assert_eq!(strict(Endpoint::Responses, &body).unwrap(), facts, "{tools}");
    }
}

#[test]
fn the_codes_are_those_of_the_problems() {
    let mut codes: Vec<_> = Invalid::examples().iter().map(|invalid| invalid.problem.code()).collect();
    let mut known = Problem::CODES.to_vec();
    codes.sort_unstable();
    codes.dedup();
    known.sort_unstable();
    assert_eq!(codes, known);
}

#[test]
fn no_name_has_two_rules() {
    for endpoint in OPERATIONS {
        for level in [Level::Basic, Level::Strict] {
            let shape = Check::of(endpoint, level).unwrap().shape();
            for (number, member) in shape.members.iter().enumerate() {
                assert_eq!(shape.find_name(member.name.as_bytes()), Some(number), "{}", member.name);
            }
        }
    }
}

/// Pieces of requests, right and wrong.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        r#"{"type":"text","text":1},"#,
        r#"{"text":1,"type":"other"},"#,
        r#"{"role":"user","content":["#,
        r#"{"content":["#,
        r#"{"source":{"data":1,"type":"base64"},"type":"image"},"#,
        r#"{"type":"tool_result","content":["#,
        r#"],"role":"user"},"#,
        r#"],"type":"other"},"#,
        r#""messages":["#,
        r#""input":["#,
        r#""tools":["#,
        r#""prompt":["#,
        r#""model":"m","#,
        r#""metadata":{"a":1},"#,
        "{",
        "}",
        "[",
        "]",
        "1,",
        "\"x\",",
        "null",
        ",",
    ])
}

proptest! {
    /// Each byte is read a few times at most, however often a problem is found in it.
    #[test]
    fn a_check_never_goes_back_far(pieces in prop::collection::vec(piece(), 0..60), times in 1..20_usize) {
        let body = format!("{{{}", pieces.concat().repeat(times));
        for endpoint in OPERATIONS {
            REWOUND.set(0);
            let _ = strict(endpoint, &body);
            prop_assert!(REWOUND.get() <= 8 * body.len(), "{} of {}: {body}", REWOUND.get(), body.len());
        }
    }
}
