//! Answers whose heads or bodies can be read in more ways than one.

use super::{INVALID, Row, Want, besiege, closed, kept, with};

const DATA: &str = r#"{"a":1}"#;
const BROKEN: Want = Want::Broken(200);

/// What a desynchronised connection would give to the next caller.
const OTHERS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nothers";

/// An answer with these headers and the usual body.
fn headed(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{lines}\r\n{DATA}").into()
}

fn chunks(chunks: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
        .into()
}

fn long(value: &str) -> Vec<u8> {
    headed(&format!("content-length: {value}\r\n"))
}

#[tokio::test]
async fn lengths_and_codings() {
    let chunked = |value: &str| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {value}\r\n\r\n7\r\n{DATA}\r\n0\r\n\r\n")
    };
    const LENGTH: &str = "RFC 9110 §8.6, RFC 9112 §6.3(5)";
    besiege(&[
        kept("plain", LENGTH, long("7"), with(200, DATA)),
        kept("the same twice", LENGTH, long("7\r\ncontent-length: 7"), with(200, DATA)),
        kept("the same as a list", LENGTH, long("7, 7"), with(200, DATA)),
        kept("zeros before", LENGTH, long("007"), with(200, DATA)),
        kept("different", LENGTH, long("7\r\ncontent-length: 3"), INVALID),
        kept("a list", LENGTH, long("3, 7"), INVALID),
        kept("plus", LENGTH, long("+7"), INVALID),
        kept("minus", LENGTH, long("-7"), INVALID),
        kept("hex", LENGTH, long("0x7"), INVALID),
        kept("empty", LENGTH, long(""), INVALID),
        kept("past 64 bits", LENGTH, long("18446744073709551623"), INVALID),
        kept("chunked", "RFC 9112 §7.1", chunked("chunked"), with(200, DATA)),
        closed("gzip, chunked", "RFC 9112 §6.1: it was not asked for", chunked("gzip, chunked"), INVALID),
        closed("identity", "RFC 9112 §7", chunked("identity"), INVALID),
        closed("chunked, identity", "RFC 9112 §6.3(4)", chunked("chunked, identity"), INVALID),
        closed("xchunked", "RFC 9112 §6.3(4)", chunked("xchunked"), INVALID),
        closed("twice", "RFC 9112 §6.1", chunked("chunked\r\ntransfer-encoding: chunked"), INVALID),
        kept("vertical tab", "RFC 9110 §5.5", chunked("\x0bchunked"), INVALID),
        kept("HTTP/1.0 with chunks", "RFC 9112 §6.1", chunked("chunked").replace("/1.1", "/1.0"), INVALID),
    ])
    .await;
}

/// Too little breaks off where the caller sees it; too much is nobody's.
#[tokio::test]
async fn lengths_that_lie() {
    const LIE: &str = "RFC 9112 §6.3, §8";
    let more = |head: &str| format!("HTTP/1.1 {head}\r\n\r\n{OTHERS}");
    besiege(&[
        closed("too short", LIE, long("8"), BROKEN),
        closed("much too short", LIE, long("9000000000000000000"), BROKEN),
        kept("too long", LIE, long("6"), with(200, &DATA[..6])),
        kept("another answer behind it", LIE, [&long("7")[..], OTHERS.as_bytes()].concat(), with(200, DATA)),
        kept("another answer behind chunks", LIE, chunks(&format!("0\r\n\r\n{OTHERS}")), with(200, "")),
        kept(
            "204 with a body",
            "RFC 9110 §15.3.5",
            more("204 No Content\r\ncontent-length: 49"),
            with(204, ""),
        ),
        kept(
            "204 with chunks",
            "RFC 9112 §6.1",
            more("204 No Content\r\ntransfer-encoding: chunked"),
            with(204, ""),
        ),
        kept(
            "304 with a body",
            "RFC 9110 §15.4.5",
            more("304 Not Modified\r\ncontent-length: 49"),
            with(304, ""),
        ),
        Row {
            method: "HEAD",
            ..kept("HEAD with a body", "RFC 9110 §9.3.2", more("200 OK\r\ncontent-length: 49"), with(200, ""))
        },
    ])
    .await;
}

#[tokio::test]
async fn chunks_that_are_none() {
    const GRAMMAR: &str = "RFC 9112 §7.1";
    besiege(&[
        kept("no size", GRAMMAR, chunks(&format!("\r\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        kept("0x", GRAMMAR, chunks(&format!("0x7\r\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        kept("minus", GRAMMAR, chunks(&format!("-7\r\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        kept(
            "past 64 bits",
            "CVE-2013-2028",
            chunks(&format!("10000000000000007\r\n{DATA}\r\n0\r\n\r\n")),
            BROKEN,
        ),
        kept("LF alone", "RFC 9112 §2.2", chunks(&format!("7\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        kept("LF within an extension", "CVE-2025-55315", chunks(&format!("7;\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        kept("too short", GRAMMAR, chunks(&format!("6\r\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        kept("too long", GRAMMAR, chunks(&format!("8\r\n{DATA}\r\n0\r\n\r\n")), BROKEN),
        closed("no last one", "RFC 9112 §8", chunks(&format!("7\r\n{DATA}\r\n")), BROKEN),
        closed("no end of trailers", "RFC 9112 §8", chunks(&format!("7\r\n{DATA}\r\n0\r\n")), BROKEN),
        kept(
            "an extension",
            "RFC 9112 §7.1.1",
            chunks(&format!("7;a=\"b\"\r\n{DATA}\r\n0\r\n\r\n")),
            with(200, DATA),
        ),
        kept(
            "an answer for a trailer",
            "RFC 9112 §7.1.2",
            chunks(&format!("7\r\n{DATA}\r\n0\r\n{OTHERS}")),
            BROKEN,
        ),
        kept(
            "LF behind the last",
            "RFC 9112 §2.2",
            chunks(&format!("7\r\n{DATA}\r\n0\r\n\n{OTHERS}\r\n\r\n")),
            BROKEN,
        ),
    ])
    .await;
}

/// What hyper refuses is no answer; what it can read is passed on in the gateway's own form.
#[tokio::test]
async fn heads() {
    let status = |line: &str| format!("{line}\r\ncontent-length: 7\r\n\r\n{DATA}");
    let line = |line: &str| headed(&format!("content-length: 7\r\n{line}\r\n"));
    const FIELD: &str = "RFC 9112 §5";
    const STATUS: &str = "RFC 9112 §4";
    besiege(&[
        kept("CR within a value", "RFC 9110 §5.5", line("x: a\rset-cookie: b=c"), INVALID),
        kept("NUL", "RFC 9110 §5.5", line("x: a\0b"), INVALID),
        kept("LF alone", "RFC 9112 §2.2 (MAY)", line("x: a\ny: b"), with(200, DATA)),
        kept("folded", "RFC 9112 §5.2: spaces instead", line("x: a\r\n b"), with(200, DATA)),
        kept("space before the colon", "RFC 9112 §5.1: removed", line("x : a"), with(200, DATA)),
        kept(
            "space before the length's colon",
            "RFC 9112 §5.1",
            headed("content-length : 7\r\n"),
            with(200, DATA),
        ),
        kept("a folded length", "RFC 9112 §5.2", headed("content-length:\r\n 7\r\n"), with(200, DATA)),
        kept("no colon", FIELD, line("nonsense"), INVALID),
        kept("no name", FIELD, line(": a"), INVALID),
        kept("too large", "bound", line(&format!("x: {}", "y".repeat(300 << 10))), INVALID),
        kept("many", "bound", line("x: y\r\n".repeat(90).trim_end()), with(200, DATA)),
        kept("too many", "bound", line(&"x: y\r\n".repeat(110)), INVALID),
        kept("without end", "bound", format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(2 << 20)), INVALID),
        kept("no reason", STATUS, status("HTTP/1.1 200 "), with(200, DATA)),
        kept("another reason", STATUS, status("HTTP/1.1 200 Fine"), with(200, DATA)),
        kept("no status", STATUS, status("HTTP/1.1 OK"), INVALID),
        kept("two digits", STATUS, status("HTTP/1.1 20"), INVALID),
        kept("four digits", STATUS, status("HTTP/1.1 2000 OK"), INVALID),
        kept("below 100", STATUS, status("HTTP/1.1 099 OK"), INVALID),
        kept("HTTP/2.0", "RFC 9112 §2.3", status("HTTP/2.0 200 OK"), INVALID),
        kept("HTTP/1.2", "RFC 9112 §2.3", status("HTTP/1.2 200 OK"), INVALID),
        closed("HTTP/0.9", "RFC 9112 §A", DATA, INVALID),
        closed("HTTP/1.0", "RFC 9112 §6.3(8)", format!("HTTP/1.0 200 OK\r\n\r\n{DATA}"), with(200, DATA)),
        kept(
            "HTTP/1.0, kept",
            "RFC 9112 §C.2.2",
            status("HTTP/1.0 200 OK\r\nconnection: keep-alive"),
            with(200, DATA),
        ),
        kept(
            "another protocol",
            "RFC 9110 §7.8",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
            INVALID,
        ),
        kept(
            "interim ones",
            "RFC 9110 §15.2",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(200)
                + "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"
                + &status("HTTP/1.1 200 OK"),
            with(200, DATA),
        ),
        closed("half a head", "RFC 9112 §8", "HTTP/1.1 200 OK\r\ncontent-le", INVALID),
    ])
    .await;
}

/// Never inflated, whatever it would become: what a small bomb says goes through byte for byte.
#[tokio::test]
async fn compressed_bodies() {
    // A deflate block of zeros (RFC 1951 §3.2.6) that would be a thousand times as long.
    let bomb = [
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..],
        &[0xec, 0xc1, 1, 1, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 8],
    ]
    .concat();
    let coded = |status: &str, coding: &str, kind: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        [head.as_bytes(), &bomb].concat()
    };
    const RULE: &str = "RFC 9110 §8.4";
    besiege(&[
        kept("JSON", RULE, coded("200 OK", "gzip", "application/json"), with(200, &bomb)),
        kept("a stream", RULE, coded("200 OK", "gzip", "text/event-stream"), with(200, &bomb)),
        kept("another coding", RULE, coded("200 OK", "br", "application/json"), with(200, &bomb)),
        kept("twice", RULE, coded("200 OK", "gzip, gzip", "application/json"), with(200, &bomb)),
        kept(
            "in another line",
            RULE,
            coded("200 OK", "identity\r\ncontent-encoding: gzip", "text/event-stream"),
            with(200, &bomb),
        ),
    ])
    .await;
}
