//! The invariants that the fuzz targets hold (fuzz/README.md), with generated input in every run: their seeds, and those with
//! pieces put in and taken out, or pieces alone.

#[path = "../../fuzz/invariants/mod.rs"]
mod invariants;

use std::{fmt, fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::Index};

/// What is likely to meet at a wrong place when strung together.
const OF_STREAMS: &[&str] = &[
    "data: {\"a\":1}",
    "data:x",
    "data:  two",
    "data",
    "data:",
    "dat",
    "datax: y",
    " data: y",
    "event: ping",
    "event:",
    "event",
    "eventual: x",
    "id: 7",
    "retry: 10",
    ": comment",
    ":",
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\r\r",
    "\u{FEFF}",
    "\u{FEFF}data: b",
    "é😀",
    "data: [DONE]",
];

const OF_JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\"",
    "{}",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.0",
    "1e400",
    "18446744073709551616",
    "\"model\":",
    "\"model\":\"a\",",
    "\"mod\\u0065l\":null,",
    "\"Model\":1,",
    "\"stream\":true,",
    "\"stream\":null,",
    "\"background\":false,",
    "\"max_tokens\":7,",
    "\"max_output_tokens\":9,",
    "\"stream_options\":{\"include_usage\":true},",
    "\"include_usage\":true,",
    "\"include_usage\":false,",
    "\"stream_options\":null,",
    "\"stream_options\":{\"x\":1,",
    "\"data_sources\":[],",
    "\"x\":\"\\ud83d\",",
    "\"Zx81yBq7\"",
    "é",
    "\\",
];

const OF_REQUESTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1.5",
    "1e400",
    "\"x\"",
    "\"\\ud83d\"",
    "\"Zx81yBq7\":1,",
    "\"model\":\"m\",",
    "\"mod\\u0065l\":4,",
    "\"stream\":true,",
    "\"messages\":[",
    "\"input\":[",
    "\"prompt\":[1,2,",
    "\"tools\":[{\"type\":\"mcp\"},",
    "{\"role\":\"user\",",
    "\"role\":\"Zx81yBq7\",",
    "\"content\":[",
    "{\"type\":\"text\",",
    "\"type\":\"tool_use\",",
    "\"text\":1,",
    "\"max_tokens\":-1,",
    "\"metadata\":{\"Zx81yBq7\":",
    "\"name\":\"a b\",",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "é",
];

const OF_CONFIGURATIONS: &[&str] = &[
    "[",
    "]",
    "[[",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\\",
    "é",
    "0",
    "-1",
    "1e9",
    "true",
    "1979-05-27",
    "[upstream.",
    "[route.b]\n",
    "[client.\"a b\"]\n",
    "key = ",
    "keys = [",
    "url = \"https://u:p@h/\"\n",
    "{ env = \"A\" }",
    "{ file = \"a\" }",
    "{ credential = \"a\" }",
    "\"off\"",
    "\"5s\"",
    "\"99999999999999999999h\"",
    "\"1MiB\"",
];

const OF_HEADERS: &[&str] = &[
    "\n",
    ":",
    ",",
    " ",
    "\nconnection: ",
    "\nconnection: x-hop, X-Set ,,",
    "\nconnection: close",
    "\nclose: 1",
    "\nx-hop: 1",
    "\nauthorization: Bearer ",
    "\nx-a: ",
    "\nX-A: 2",
    "\ntrailer: ",
    "\ntrailer: x-a, te",
    "\nte: trailers",
    "\ncontent-length: 5",
    "\nx-request-id: ",
    "\nx-upstream-request-id: 1",
    "\nset-cookie: a",
    "\nproxy-status: a",
    "\nproxy-any: a",
    "\nzz-",
    "\n+set-cookie",
    "\n+authorization",
    "\n-x-a",
    "\n?x-a",
    "\n=x-set: 1",
    "\n=connection: close",
    "sk-Zx81yBq7",
    "sk%2DZx81yBq7",
    "%2573k-Zx81yBq7",
    "c2stWng4MXlCcTc=",
    "SK-zX81YbQ7",
    "%",
    "\u{fe}",
];

const OF_PATHS: &[&str] = &[
    "/",
    "//",
    ".",
    "..",
    "/..",
    "/../",
    "/./",
    "%2e",
    "%2E%2e",
    "%2f",
    "%5c",
    "\\",
    ";",
    "%3b",
    "..;a",
    "..%3B",
    "%",
    "%25",
    "%00",
    "%c3%a9",
    "é",
    "v1",
    "/v1",
    "a",
    "?",
    "#",
    "\n",
    "\n/",
    "&",
    "=",
    "key=1",
    "&%6bey=2",
    "&api-key=3",
    "sk-Zx81",
    "sk%2dZx81",
    "&b=c",
    " ",
];

const OF_FORMS: &[&str] = &[
    "multipart/form-data; boundary=xyz\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "--xyz",
    "--xyz\r\n",
    "\r\n--xyz\r\n",
    "\r\n--xyz--",
    "\r\n--xyz--\r\n",
    "--xyzz",
    "--",
    " ",
    "content-disposition: form-data; name=\"model\"\r\n\r\n",
    "Content-Disposition: form-data; name=model\r\n\r\n",
    "content-disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n",
    "content-disposition: form-data; name=\"stream\"\r\n\r\ntrue",
    "content-transfer-encoding: base64\r\n",
    "; name=\"model\"",
    "\\\"",
    "Zx81yBq7",
    "whisper-1",
    "\0",
    "é",
];

/// Headers, blocks and checksums of both codings, a byte for most.
const OF_CODINGS: &[&str] = &[
    "\0",
    "\u{1}",
    "\u{3}",
    "\u{8}",
    "\u{1f}",
    "(",
    "/",
    "\u{18}",
    "*",
    "M",
    "P",
    "h",
    "\t",
    " ",
    "x",
    "\u{7f}",
    "aaaaaaaaaaaaaaaa",
];

/// First bytes, lengths and pieces of payloads.
const OF_FRAMES: &[&str] = &[
    "\u{1}",
    "\0",
    "\u{2}",
    "\u{8}\u{2}\u{3}x",
    "\u{1}\u{2}hi",
    "\0\u{2}hi",
    "\u{1}~\0\u{5}hello",
    "\u{1}\u{7f}\0\0\0\0\0\0\0\u{3}abc",
    "\u{9}\u{4}ping",
    "}",
    "~",
    "\u{7f}",
    "{\"type\":\"response.done\"}",
    "aaaaaaaaaaaaaaaa",
];

/// Shown as text where it is.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The committed inputs of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A seed or nothing, changed at up to 12 places; now and then a byte that is no text.
fn input(target: &str, pieces: &'static [&'static str]) -> impl Strategy<Value = Input> + use<> {
    let begun = prop_oneof![
        prop::sample::select(seeds(target)),
        vec(prop::sample::select(pieces), 0..40)
            .prop_map(|pieces| [b"AAAAAAAA", pieces.concat().as_bytes()].concat()),
    ];
    let piece = prop_oneof![
        20 => prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    let edit = (any::<Index>(), prop_oneof![Just(0), 0..9_usize], piece);
    (begun, vec(edit, 0..12)).prop_map(|(mut bytes, edits)| {
        for (at, gone, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let to = (at + gone).min(bytes.len());
            bytes.splice(at..to, piece);
        }
        Input(bytes)
    })
}

macro_rules! properties {
    ($($name:ident: $target:ident of $pieces:ident;)*) => {$(
        #[test]
        fn $name() {
            seeds(stringify!($target)).iter().for_each(|seed| invariants::$target::check(seed));
            let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) };
            proptest!(config, |(data in input(stringify!($target), $pieces))| {
                invariants::$target::check(&data.0);
            });
        }
    )*};
}

properties! {
    no_cut_changes_what_is_seen_of_a_stream: scanner of OF_STREAMS;
    the_facts_of_a_body_are_what_its_tree_says: facts of OF_JSON;
    a_request_that_passes_a_check_has_the_facts_of_its_body: validate of OF_REQUESTS;
    the_facts_of_a_form_are_what_any_reader_finds: form of OF_FORMS;
    a_body_is_decoded_within_its_bounds: coding of OF_CODINGS;
    no_cut_changes_an_outline: outline of OF_JSON;
    no_cut_changes_a_message: websocket of OF_FRAMES;
    another_model_changes_nothing_else: splice of OF_JSON;
    any_text_is_a_configuration_or_has_its_problems_told: config of OF_CONFIGURATIONS;
    nothing_of_one_side_alone_is_in_what_crosses: headers of OF_HEADERS;
    a_path_is_read_in_one_way_and_leads_out_of_no_route: path of OF_PATHS;
}
