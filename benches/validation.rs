//! Reads a request body again and again, checked or not, for `benches/validation` to count instructions.
//!
//! Arguments: the kind of the body, its size in KiB, "off", "basic" or "strict", and how often it is read.

use std::{env, hint::black_box, process::ExitCode};

use sluicegate::openai::{Check, Endpoint, Facts, Level};

const WORDS: [&str; 12] =
    ["the", "gateway", "forwards", "a", "stream", "of", "tokens", "to", "its", "client", "and", "waits"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, kib, level, times] = arguments.as_slice() else { return ExitCode::from(2) };
    let (Ok(kib), Ok(times)) = (kib.parse::<usize>(), times.parse::<usize>()) else {
        return ExitCode::from(2);
    };
    let (endpoint, body) = body(kind, kib << 10);
    let check = match level.as_str() {
        "basic" => Check::of(endpoint, Level::Basic),
        "strict" => Check::of(endpoint, Level::Strict),
        _ => None,
    };
    let is_sound = (0..times).all(|_| {
        let body = black_box(body.as_bytes());
        check.map_or_else(|| Facts::read(body).is_ok(), |check| check.read(body).is_ok())
    });
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A sound body of about that size.
fn body(kind: &str, size: usize) -> (Endpoint, String) {
    let prose = |length: usize| prose(length);
    let messages = match kind {
        "tokens" => {
            let tokens: Vec<String> =
                (0..size / 6).map(|number| (10_000 + number % 90_000).to_string()).collect();
            let body = format!(r#"{{"model":"text-embedding-3-small","input":[[{}]]}}"#, tokens.join(","));
            return (Endpoint::Embeddings, body);
        }
        "prose" => format!(r#"{{"role":"user","content":"{}"}}"#, prose(size.saturating_sub(200))),
        "image" => format!(
            r#"{{"role":"user","content":[{{"type":"text","text":"What is this?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]}}"#,
            "iVBORw0KGgoAAAAN".repeat(size.saturating_sub(320) / 16)
        ),
        "turns" => turns(size.saturating_sub(200), |number| {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"{}"}}"#, prose(80 + number * 37 % 240))
        }),
        // An agent's, with calls and their results; half of it describes tools.
        _ => turns(size / 2, |number| {
            match number % 3 {
            0 => format!(r#"{{"role":"user","content":"{}"}}"#, prose(100)),
            1 => r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Paris\"}"}}]}"#.to_owned(),
            _ => format!(r#"{{"role":"tool","tool_call_id":"call_1","content":"{}"}}"#, prose(200)),
        }
        }),
    };
    let tools = match kind {
        "agent" => turns(size / 2, |number| tool(number, size)),
        _ => String::new(),
    };
    let body = format!(
        r#"{{"model":"gpt-4o-mini","messages":[{messages}],"tools":[{tools}],"temperature":0.7,"max_tokens":256,"stream":true,"stream_options":{{"include_usage":true}},"user":"u-1"}}"#
    );
    (Endpoint::ChatCompletions, body)
}

/// There are at most 128 tools, so those of a large body are described at length.
fn tool(number: usize, size: usize) -> String {
    let description = prose((size / 300).max(100));
    format!(
        r#"{{"type":"function","function":{{"name":"tool_{number}","description":"{description}","parameters":{{"type":"object","properties":{{"city":{{"type":"string","description":"The city"}},"unit":{{"type":"string","enum":["c","f"]}}}},"required":["city"]}}}}}}"#
    )
}

/// Items up to that size, with commas between them.
fn turns(size: usize, item: impl Fn(usize) -> String) -> String {
    let mut items = item(0);
    let mut number = 1;
    while items.len() < size {
        items.push(',');
        items.push_str(&item(number));
        number += 1;
    }
    items
}

/// Words, with a line end now and then.
fn prose(length: usize) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < length {
        text.push_str(WORDS[number * 7 % WORDS.len()]);
        text.push_str(if number % 50 == 49 { "\\n" } else { " " });
        number += 1;
    }
    text
}
