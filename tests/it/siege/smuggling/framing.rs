//! Where a body ends: lengths, transfer codings, chunks, trailers.

use super::{Ends, Meant, NEXT, Passes, Refused, besiege, row};

const POST: &[Meant] = &[("POST", "/v1/x", r#"{"a":1}"#)];
const EMPTY: &[Meant] = &[("POST", "/v1/x", "")];
const GET: &[Meant] = &[("GET", "/v1/x", r#"{"a":1}"#)];

/// A POST with these framing headers before a body in one chunk.
fn coded(lines: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\n$H$T{lines}\r\n7\r\n$B\r\n0\r\n\r\n").into()
}

/// A POST with these framing headers before the body as it is.
fn long(lines: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\n$H$T{lines}\r\n$B").into()
}

/// A POST with these chunks.
fn chunks(chunks: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\n$H$Ttrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n{chunks}").into()
}

/// The same before another.
fn after_size(line: &str) -> Vec<u8> {
    chunks(&format!("{line}$B\r\n0\r\n\r\n"))
}

fn trailed(lines: &str) -> Vec<u8> {
    chunks(&format!("7\r\n$B\r\n0\r\n{lines}\r\n"))
}

/// Two ends of one body: the oldest of these attacks (Linhart et al. 2005), and still found every year.
#[tokio::test]
async fn lengths_beside_chunks() {
    const BOTH: &str = "RFC 9112 §6.3(3)";
    besiege(&[
        row("CL.TE", BOTH, coded("content-length: 100\r\ntransfer-encoding: chunked\r\n"), Ends(POST, 0)),
        row("TE.CL", BOTH, coded("transfer-encoding: chunked\r\ncontent-length: 3\r\n"), Ends(POST, 0)),
        row("CL.0", BOTH, coded("content-length: 0\r\ntransfer-encoding: chunked\r\n"), Ends(POST, 0)),
        row(
            "CL.TE.CL",
            BOTH,
            coded("content-length: 3\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n"),
            Ends(POST, 0),
        ),
        row(
            "GET with both",
            BOTH,
            "GET /v1/x HTTP/1.1\r\n$H$T$Ltransfer-encoding: chunked\r\n\r\n7\r\n$B\r\n0\r\n\r\n",
            Ends(GET, 0),
        ),
        row(
            "HTTP/1.0 with chunks",
            "RFC 9112 §6.1, CVE-2022-26377",
            "POST /v1/x HTTP/1.0\r\n$H$T$Ltransfer-encoding: chunked\r\n\r\n7\r\n$B\r\n0\r\n\r\n",
            Refused(400),
        ),
    ])
    .await;
}

/// A request of no type, whose body is the end of chunks to one reader and as long as the next request to another.
#[tokio::test]
async fn heads_with_two_readings() {
    // What `$H` is replaced by is as long as this.
    let length = NEXT.len() - 2 + super::HEAD.replace("KEY", crate::harness::CLIENT_KEY).len();
    let head = |name: &'static str, source: &'static str, version: &str, lines: &str| {
        let bytes = format!("POST /v1/files {version}\r\n$H{lines}\r\n0\r\n\r\n");
        row(name, source, bytes, Refused(400))
    };
    let refused = |name, source, line: &str| head(name, source, "HTTP/1.1", &format!("{line}\r\n"));
    let chunked = "transfer-encoding: chunked";
    besiege(&[
        refused("two lengths", "RFC 9110 §8.6", &format!("content-length: 0\r\ncontent-length: {length}")),
        refused("a list of lengths", "RFC 9110 §8.6", &format!("content-length: {length}, 0")),
        refused("plus", "RFC 9110 §8.6, CVE-2021-32715", &format!("content-length: +{length}")),
        refused("hex", "RFC 9110 §8.6", "content-length: 0x0"),
        refused("space before the colon of a length", "RFC 9112 §5.1", "content-length : 0"),
        refused("gzip", "RFC 9112 §6.3(4)", "transfer-encoding: gzip"),
        refused("chunked, identity", "RFC 9112 §6.3(4)", "transfer-encoding: chunked, identity"),
        refused("xchunked", "RFC 9112 §6.3(4)", "transfer-encoding: xchunked"),
        refused("space before the colon", "RFC 9112 §5.1, CVE-2019-16869", "transfer-encoding : chunked"),
        refused("folded away", "RFC 9112 §5.2", &format!("x-folded: a\r\n {chunked}")),
        refused("hidden behind CR", "RFC 9112 §2.2", &format!("x-bare: a\r{chunked}")),
        head("HTTP/1.0 with chunks", "RFC 9112 §6.1, CVE-2022-26377", "HTTP/1.0", &format!("{chunked}\r\n")),
    ])
    .await;
}

/// Chunks decide, the connection ends with the answer, and upstream goes one framing: the recorder takes no other.
#[tokio::test]
async fn a_length_beside_chunks_is_the_last_request_of_its_connection() {
    const ABC: &[Meant] = &[("POST", "/v1/files", "abc")];
    let both = |first: &str, second: &str| {
        format!("POST /v1/files HTTP/1.1\r\n$H{first}\r\n{second}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    };
    let chunked = "transfer-encoding: chunked";
    besiege(&[
        row("CL.TE, a short length", "RFC 9112 §6.1", both("content-length: 5", chunked), Ends(ABC, 0)),
        row("TE.CL, a long length", "RFC 9112 §6.1", both(chunked, "content-length: 100"), Ends(ABC, 0)),
    ])
    .await;
}

#[tokio::test]
async fn transfer_codings() {
    let te = |value: &str| coded(&format!("transfer-encoding: {value}\r\n"));
    let cl = |line: &str| coded(&format!("content-length: 17\r\n{line}\r\n"));
    besiege(&[
        row("chunked", "RFC 9112 §7.1", te("chunked"), Passes(POST)),
        row("no space", "RFC 9112 §5", coded("transfer-encoding:chunked\r\n"), Passes(POST)),
        row("case", "RFC 9112 §7", coded("TrAnSfEr-EnCoDiNg: cHuNkEd\r\n"), Passes(POST)),
        row("spaces around", "RFC 9110 §5.5", coded("transfer-encoding:\t chunked \t\r\n"), Passes(POST)),
        row("xchunked", "RFC 9112 §6.3(4)", te("xchunked"), Refused(400)),
        row("chunkedx", "RFC 9112 §6.3(4)", te("chunkedx"), Refused(400)),
        row("in quotes", "RFC 9112 §7", te("\"chunked\""), Refused(400)),
        row("in one quote", "CVE-2019-16276", te("'chunked'"), Refused(400)),
        row("with a parameter", "RFC 9112 §7", te("chunked;q=1"), Refused(400)),
        row("empty", "RFC 9112 §6.1", te(""), Refused(400)),
        row("identity", "RFC 9112 §7, CVE-2020-7658", te("identity"), Refused(400)),
        row("chunked, identity", "RFC 9112 §6.3(4)", te("chunked, identity"), Refused(400)),
        row("identity, chunked", "RFC 9112 §7, CVE-2022-32213", te("identity, chunked"), Refused(400)),
        row("gzip, chunked", "RFC 9112 §6.1", te("gzip, chunked"), Refused(400)),
        row("twice in a line", "RFC 9112 §6.1", te("chunked, chunked"), Refused(400)),
        row("an empty member", "RFC 9110 §5.6.1", te(", chunked"), Refused(400)),
        row("two lines", "RFC 9112 §6.1", te("chunked\r\ntransfer-encoding: chunked"), Refused(400)),
        row(
            "identity, then chunked",
            "RFC 9112 §6.1",
            te("identity\r\ntransfer-encoding: chunked"),
            Refused(400),
        ),
        row(
            "chunked, then identity",
            "RFC 9112 §6.3(4)",
            te("chunked\r\ntransfer-encoding: identity"),
            Refused(400),
        ),
        row("chunked, then nothing", "RFC 9112 §6.3(4)", te("chunked\r\ntransfer-encoding:"), Refused(400)),
        row("vertical tab", "RFC 9110 §5.5", te("\x0bchunked"), Refused(400)),
        row("form feed", "RFC 9110 §5.5", te("chunked\x0c"), Refused(400)),
        row("NUL", "RFC 9110 §5.5", te("chunked\0"), Refused(400)),
        row("no-break space", "RFC 9112 §7", te("\u{a0}chunked"), Refused(400)),
        row("Kelvin sign", "RFC 9110 §5.6.2", te("chun\u{212a}ed"), Refused(400)),
        row(
            "space before the colon",
            "RFC 9112 §5.1, CVE-2019-16869",
            cl("transfer-encoding : chunked"),
            Refused(400),
        ),
        row("tab before the colon", "RFC 9112 §5.1", cl("transfer-encoding\t: chunked"), Refused(400)),
        row("space before the name", "RFC 9112 §5.2", cl(" transfer-encoding: chunked"), Refused(400)),
        row("folded", "RFC 9112 §5.2", cl("transfer-encoding:\r\n chunked"), Refused(400)),
        row("folded away", "RFC 9112 §5.2", cl("x: y\r\n\ttransfer-encoding: chunked"), Refused(400)),
        row("NUL in the name", "RFC 9110 §5.1", cl("transfer-encoding\0: chunked"), Refused(400)),
        row("hidden behind CR", "RFC 9112 §2.2", cl("x: y\rtransfer-encoding: chunked"), Refused(400)),
        // No framing at all to who reads them as they are, and one to CGI's heirs.
        row("underscores", "RFC 3875 §4.1.18", long("$Ltransfer_encoding: chunked\r\n"), Passes(POST)),
        row("underscores, doubled", "RFC 3875 §4.1.18", long("$Lcontent_length: 0\r\n"), Passes(POST)),
    ])
    .await;
}

#[tokio::test]
async fn lengths() {
    let cl = |value: &str| long(&format!("content-length: {value}\r\n"));
    const GRAMMAR: &str = "RFC 9110 §8.6";
    besiege(&[
        row("plain", GRAMMAR, cl("7"), Passes(POST)),
        row("spaces around", "RFC 9110 §5.5", cl("\t7 \t"), Passes(POST)),
        row("zeros before", "RFC 9110 §8.6: some read octal", cl("007"), Passes(POST)),
        row("the same twice", GRAMMAR, cl("7\r\ncontent-length: 7"), Passes(POST)),
        row("the same as a list", GRAMMAR, cl("7, 7"), Refused(400)),
        row("different", GRAMMAR, cl("7\r\ncontent-length: 8"), Refused(400)),
        row("different, first nothing", GRAMMAR, cl("0\r\ncontent-length: 7"), Refused(400)),
        row("a list", GRAMMAR, cl("7, 8"), Refused(400)),
        row("plus", "RFC 9110 §8.6, CVE-2021-32715", cl("+7"), Refused(400)),
        row("minus", GRAMMAR, cl("-7"), Refused(400)),
        row("hex", GRAMMAR, cl("0x7"), Refused(400)),
        row("space within", GRAMMAR, cl("7 7"), Refused(400)),
        row("fraction", GRAMMAR, cl("7.0"), Refused(400)),
        row("exponent", GRAMMAR, cl("7e0"), Refused(400)),
        row("underscore", "CVE-2023-46136", cl("0_7"), Refused(400)),
        row("in quotes", GRAMMAR, cl("\"7\""), Refused(400)),
        row("other digits", GRAMMAR, cl("\u{ff17}"), Refused(400)),
        row("empty", GRAMMAR, cl(""), Refused(400)),
        row("empty, then a number", GRAMMAR, cl("\r\ncontent-length: 7"), Refused(400)),
        row("past 64 bits", GRAMMAR, cl("18446744073709551623"), Refused(400)),
        row("all of 64 bits", GRAMMAR, cl("18446744073709551615"), Refused(431)),
        row("vertical tab", "RFC 9110 §5.5", cl("\x0b7"), Refused(400)),
        row("folded", "RFC 9112 §5.2", cl("\r\n 7"), Refused(400)),
        row("space before the colon", "RFC 9112 §5.1", long("content-length : 7\r\n"), Refused(400)),
        row("none", "RFC 9112 §6.3(7)", long(""), Ends(EMPTY, 400)),
        row("GET with a body", "RFC 9110 §9.3.1", "GET /v1/x HTTP/1.1\r\n$H$T$L\r\n$B", Passes(GET)),
        row(
            "GET with chunks",
            "RFC 9110 §9.3.1",
            "GET /v1/x HTTP/1.1\r\n$H$Ttransfer-encoding: chunked\r\n\r\n7\r\n$B\r\n0\r\n\r\n",
            Passes(GET),
        ),
        row(
            "DELETE with chunks",
            "RFC 9110 §9.3.5",
            "DELETE /v1/x HTTP/1.1\r\n$H$Ttransfer-encoding: chunked\r\n\r\n7\r\n$B\r\n0\r\n\r\n",
            Passes(&[("DELETE", "/v1/x", r#"{"a":1}"#)]),
        ),
        row("HTTP/1.0 with a body", "RFC 9112 §C.2.2", "POST /v1/x HTTP/1.0\r\n$H$T$L\r\n$B", Ends(POST, 0)),
    ])
    .await;
}

#[tokio::test]
async fn chunk_sizes_and_extensions() {
    const GRAMMAR: &str = "RFC 9112 §7.1";
    const EXTENSION: &str = "RFC 9112 §7.1.1";
    besiege(&[
        row("zeros before", GRAMMAR, after_size("0000000000000000000000007\r\n"), Passes(POST)),
        row("space after", "RFC 9112 §7.1.1 (BWS)", after_size("7 \t\r\n"), Passes(POST)),
        row("space before", GRAMMAR, after_size(" 7\r\n"), Refused(400)),
        row("space within", GRAMMAR, after_size("0 7\r\n"), Refused(400)),
        row("0x", GRAMMAR, after_size("0x7\r\n"), Refused(400)),
        row("plus", GRAMMAR, after_size("+7\r\n"), Refused(400)),
        row("minus", GRAMMAR, after_size("-7\r\n"), Refused(400)),
        row("underscore", "CVE-2023-46136", after_size("0_7\r\n"), Refused(400)),
        row("no digit", GRAMMAR, after_size("g\r\n"), Refused(400)),
        row("nothing", GRAMMAR, after_size("\r\n"), Refused(400)),
        row("past 64 bits", "CVE-2013-2028", after_size("10000000000000007\r\n"), Refused(400)),
        row("all of 64 bits", "CVE-2013-2028", after_size("ffffffffffffffff\r\n"), Refused(408)),
        row("more than comes", GRAMMAR, after_size("ffff\r\n"), Refused(408)),
        row("LF after", "RFC 9112 §2.2", after_size("7\n"), Refused(400)),
        row("CR after", "RFC 9112 §2.2", after_size("7\r"), Refused(400)),
        row("extension", EXTENSION, after_size("7;a=b;c\r\n"), Passes(POST)),
        row("extension in quotes", EXTENSION, after_size("7;a=\"b;\\\"c\"\r\n"), Passes(POST)),
        row("extension with LF", "RFC 9112 §7.1.1, CVE-2025-55315", after_size("7;\n"), Refused(400)),
        row("extension with LF within", "CVE-2025-55315", after_size("7;a\nb\r\n"), Refused(400)),
        row("extension with CR", "CVE-2025-55315", after_size("7;a\rb\r\n"), Refused(400)),
        row("extension broken within quotes", "CVE-2025-55315", after_size("7;a=\"\r\n"), Passes(POST)),
        row(
            "endless extension",
            "RFC 9112 §7.1.1",
            after_size(&format!("7;{}\r\n", "x".repeat(100_000))),
            Refused(400),
        ),
        row("LF after the data", "RFC 9112 §7.1", chunks("7\r\n$B\n0\r\n\r\n"), Refused(400)),
        row("CR after the data", "RFC 9112 §7.1", chunks("7\r\n$B\r0\r\n\r\n"), Refused(400)),
        row("two others after the data", "RFC 9112 §7.1", chunks("7\r\n$BXX0\r\n\r\n"), Refused(400)),
        row("nothing after the data", "RFC 9112 §7.1", chunks("7\r\n$B0\r\n\r\n"), Refused(400)),
        row("last chunk with zeros", GRAMMAR, chunks("7\r\n$B\r\n000\r\n\r\n"), Passes(POST)),
        row("last chunk with an extension", EXTENSION, chunks("7\r\n$B\r\n0;a=b\r\n\r\n"), Passes(POST)),
        row("last chunk with LF", "RFC 9112 §2.2", chunks("7\r\n$B\r\n0\n\r\n"), Refused(400)),
        row("end with LF", "RFC 9112 §7.1.2", chunks("7\r\n$B\r\n0\r\n\n"), Refused(400)),
        row("no last chunk", "RFC 9112 §8", chunks("7\r\n$B\r\n"), Refused(400)),
        row(
            "only the last chunk",
            GRAMMAR,
            "POST /v1/x HTTP/1.1\r\n$Htransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Passes(EMPTY),
        ),
    ])
    .await;
}

/// What they say comes too late to be acted upon (RFC 9110 §6.5.1).
#[tokio::test]
async fn trailers() {
    const RULE: &str = "RFC 9110 §6.5.1";
    let announced = |names: &str, lines: &str| {
        format!(
            "POST /v1/x HTTP/1.1\r\n$H$Ttrailer: {names}\r\ntransfer-encoding: chunked\r\n\r\n7\r\n$B\r\n0\r\n{lines}\r\n"
        )
    };
    besiege(&[
        row("harmless", RULE, trailed("x-sum: 7\r\n"), Ends(POST, 0)),
        row("length", RULE, announced("content-length", "content-length: 100\r\n"), Ends(POST, 0)),
        row(
            "coding",
            RULE,
            announced("x-sum, transfer-encoding", "transfer-encoding: chunked\r\n"),
            Ends(POST, 0),
        ),
        row("host", RULE, announced("host", "host: elsewhere\r\n"), Ends(POST, 0)),
        row("key", RULE, announced("authorization", "authorization: Bearer other\r\n"), Ends(POST, 0)),
        row(
            "type",
            RULE,
            announced("content-type, x-sum", "content-type: text/plain\r\nx-sum: 7\r\n"),
            Ends(POST, 0),
        ),
        row(
            "override",
            "CVE-2018-14773",
            announced("x-original-url", "x-original-url: /admin\r\n"),
            Ends(POST, 0),
        ),
        row("not announced", RULE, trailed("x-other: 7\r\n"), Ends(POST, 0)),
        row("no colon", "RFC 9112 §5", trailed("nonsense\r\n"), Refused(400)),
        row("no name", "RFC 9112 §5.1", trailed(": 7\r\n"), Refused(400)),
        row("space before the colon", "RFC 9112 §5.1", trailed("x-sum : 7\r\n"), Refused(400)),
        row("folded", "RFC 9112 §5.2", trailed("x-sum: 7\r\n 8\r\n"), Refused(400)),
        row("NUL", "RFC 9110 §5.5", trailed("x-sum: \0\r\n"), Refused(400)),
        row("hidden behind LF", "RFC 9112 §2.2", trailed("x-sum: 7\ncontent-length: 3\r\n"), Refused(400)),
        // hyper takes the next request for trailers here, and nothing that follows must be taken for another.
        row(
            "an empty line of LF",
            "RFC 9112 §2.2, §7.1.2",
            chunks("7\r\n$B\r\n0\r\nx-sum: 7\n\n"),
            Ends(POST, 0),
        ),
        row("a request", RULE, trailed("GET /v1/hidden HTTP/1.1\r\n"), Refused(400)),
        row(
            "endless",
            "RFC 9110 §5.4",
            trailed(&format!("x-sum: {}\r\n", "7".repeat(200_000))),
            Refused(400),
        ),
        row("many", "RFC 9110 §5.4", trailed(&"x-sum: 7\r\n".repeat(200)), Refused(400)),
    ])
    .await;
}

/// What is left of a refused request is not the next one, however its end is told.
#[tokio::test]
async fn requests_hidden_in_the_bodies_of_refused_ones() {
    const HIDDEN: &str = "GET /v1/hidden HTTP/1.1\r\n$H\r\n";
    let at = |line: &str, more: &str, end: &str| format!("{line} HTTP/1.1\r\n{more}$T{end}\r\n");
    // What `$H` is replaced by is as long as this.
    let length = HIDDEN.len() - 2 + super::HEAD.replace("KEY", crate::harness::CLIENT_KEY).len();
    let whole = |line: &str, more: &str| at(line, more, &format!("content-length: {length}\r\n")) + HIDDEN;
    let chunk = |line: &str, more: &str| {
        at(line, more, "transfer-encoding: chunked\r\n") + &format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n")
    };
    let waits = "expect: 100-continue\r\n";
    besiege(&[
        row("no key", "RFC 9112 §9.3", whole("POST /v1/x", "host: g\r\n"), Refused(401)),
        row("no key, chunks", "RFC 9112 §9.3", chunk("POST /v1/x", "host: g\r\n"), Refused(401)),
        row(
            "no key, waits",
            "RFC 9110 §10.1.1",
            whole("POST /v1/x", &format!("host: g\r\n{waits}")),
            Refused(401),
        ),
        row("no route", "RFC 9112 §9.3", whole("POST /x", "$H"), Refused(404)),
        row("no route, waits", "RFC 9110 §10.1.1", whole("POST /x", &format!("$H{waits}")), Refused(404)),
        row("no method", "RFC 9112 §9.3", whole("TRACE /v1/x", "$H"), Refused(501)),
        row(
            "another protocol",
            "RFC 9110 §7.8",
            whole("POST /v1/x", "$Hupgrade: websocket\r\nconnection: upgrade\r\n"),
            Refused(400),
        ),
        row(
            "an unknown coding",
            "RFC 9112 §6.1",
            chunk("POST /v1/x", "$Htransfer-encoding: gzip\r\n"),
            Refused(400),
        ),
    ])
    .await;
}
