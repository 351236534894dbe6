//! Request lines: methods, versions, and targets that lead elsewhere than they look.

use super::{Answered, Ends, Meant, Passes, Refused, Row, besiege, row};

const GET: &[Meant] = &[("GET", "/v1/x", "")];

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\n$H\r\n").into()
}

#[tokio::test]
async fn methods_and_versions() {
    const LINE: &str = "RFC 9112 §3";
    const VERSION: &str = "RFC 9112 §2.3";
    besiege(&[
        row("plain", LINE, line("GET /v1/x HTTP/1.1"), Passes(GET)),
        row("two spaces", LINE, line("GET  /v1/x HTTP/1.1"), Refused(400)),
        row("two spaces, later", LINE, line("GET /v1/x  HTTP/1.1"), Refused(400)),
        row("tabs", LINE, line("GET\t/v1/x\tHTTP/1.1"), Refused(400)),
        row("space before", LINE, line(" GET /v1/x HTTP/1.1"), Refused(400)),
        row("space after", LINE, line("GET /v1/x HTTP/1.1 "), Refused(400)),
        row("space within the target", LINE, line("GET /v1/x y HTTP/1.1"), Refused(400)),
        row("two versions", LINE, line("GET /v1/x HTTP/1.1 HTTP/1.1"), Refused(400)),
        row("no target", LINE, line("GET HTTP/1.1"), Refused(400)),
        row("CR within", "RFC 9112 §2.2", line("GET /v1/x\r HTTP/1.1"), Refused(400)),
        row("NUL", LINE, line("GET /v1/\0 HTTP/1.1"), Refused(400)),
        row("no version", "HTTP/0.9", "GET /v1/x\r\n", Refused(400)),
        row("HTTP/0.9", VERSION, line("GET /v1/x HTTP/0.9"), Refused(400)),
        row("HTTP/1.2", VERSION, line("GET /v1/x HTTP/1.2"), Refused(400)),
        row("HTTP/2.0", VERSION, line("GET /v1/x HTTP/2.0"), Refused(400)),
        row("HTTP/1.10", VERSION, line("GET /v1/x HTTP/1.10"), Refused(400)),
        row("HTTP/01.1", VERSION, line("GET /v1/x HTTP/01.1"), Refused(400)),
        row("HTTP/11", VERSION, line("GET /v1/x HTTP/11"), Refused(400)),
        row("small letters", VERSION, line("GET /v1/x http/1.1"), Refused(400)),
        row("HTTP/1.0", "RFC 9112 §9.3", line("GET /v1/x HTTP/1.0"), Ends(GET, 0)),
        row(
            "HTTP/1.0, kept",
            "RFC 9112 §9.3",
            line("GET /v1/x HTTP/1.0\r\nconnection: keep-alive"),
            Ends(GET, 0),
        ),
        row("no method", "RFC 9110 §9.1", line(" /v1/x HTTP/1.1"), Refused(400)),
        row(
            "a method of its own",
            "RFC 9110 §9.1",
            line("get /v1/x HTTP/1.1"),
            Passes(&[("get", "/v1/x", "")]),
        ),
        row("a method that is no token", "RFC 9110 §9.1", line("GE(T /v1/x HTTP/1.1"), Refused(400)),
        row("a method with NUL", "RFC 9110 §9.1", line("GET\0 /v1/x HTTP/1.1"), Refused(400)),
        row("CONNECT", "RFC 9110 §9.3.6", line("CONNECT elsewhere:443 HTTP/1.1"), Answered(501)),
        row("TRACE", "RFC 9110 §9.3.8", line("TRACE /v1/x HTTP/1.1"), Answered(501)),
        row(
            "HTTP/2's preface after a request",
            "RFC 9113 §3.4",
            [&line("GET /v1/x HTTP/1.1")[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].concat(),
            Ends(GET, 0),
        ),
    ])
    .await;
}

#[tokio::test]
async fn forms_of_targets() {
    const ABSOLUTE: &str = "RFC 9112 §3.2.2";
    let target = |target: &str| line(&format!("GET {target} HTTP/1.1"));
    besiege(&[
        row("absolute", ABSOLUTE, target("http://gateway/v1/x"), Passes(GET)),
        row("absolute, another host", ABSOLUTE, target("http://elsewhere:81/v1/x"), Passes(GET)),
        row("absolute, another scheme's letters", ABSOLUTE, target("HTTP://gateway/v1/x"), Passes(GET)),
        row(
            "absolute, with a name",
            "RFC 9110 §4.2.4",
            target("http://user:pass@gateway/v1/x"),
            Answered(400),
        ),
        row("absolute, no host", "RFC 9110 §4.2.1", target("http:///v1/x"), Refused(400)),
        row("absolute, no path", ABSOLUTE, target("http://gateway"), Answered(404)),
        row("absolute, two of them", ABSOLUTE, target("http://gateway/http://elsewhere/v1/x"), Answered(404)),
        row("authority", "RFC 9112 §3.2.3", target("gateway:80"), Answered(400)),
        row("asterisk", "RFC 9112 §3.2.4", target("*"), Answered(501)),
        row("OPTIONS *", "RFC 9112 §3.2.4", line("OPTIONS * HTTP/1.1"), Answered(501)),
        row("no slash", "RFC 9112 §3.2.1", target("v1/x"), Refused(400)),
        row("only a query", "RFC 9112 §3.2.1", target("?a=b"), Refused(400)),
        row("two slashes", "RFC 3986 §3.3", target("//elsewhere/v1/x"), Answered(404)),
        row("a fragment", "RFC 9112 §3.2", target("/v1/x#/../admin"), Passes(GET)),
        row(
            "a fragment after a query",
            "RFC 9112 §3.2",
            target("/v1/x?a#b"),
            Passes(&[("GET", "/v1/x?a", "")]),
        ),
        row("too long", "RFC 9110 §15.5.15", target(&format!("/v1/{}", "x".repeat(70_000))), Refused(431)),
    ])
    .await;
}

/// Out of the route's prefix, for whoever reads them in another way.
#[tokio::test]
async fn paths() {
    let to = |target: &'static str| Passes(Box::leak(Box::new([("GET", target, "")])));
    let path = |name: &'static str, source: &'static str, path: &str, want| -> Row {
        row(name, source, line(&format!("GET {path} HTTP/1.1")), want)
    };
    besiege(&[
        path("dots", "RFC 3986 §5.2.4", "/v1/../admin", Answered(404)),
        path("dots within", "RFC 3986 §5.2.4", "/v1/./y/../x", to("/v1/x")),
        path("encoded dots", "RFC 3986 §6.2.2.2, CVE-2021-41773", "/v1/.%2e/%2E./admin", Answered(400)),
        path("encoded dots within", "RFC 3986 §6.2.2.2", "/v1/y/%2e%2e/x", to("/v1/x")),
        path("encoded slash", "RFC 3986 §2.2, CVE-2021-41773", "/v1/..%2fadmin", Answered(400)),
        path("encoded slash alone", "RFC 3986 §2.2", "/v1%2fx", Answered(404)),
        path("encoded slash below", "RFC 3986 §2.2", "/v1/x%2fadmin", to("/v1/x%2fadmin")),
        path("encoded slash and dots behind", "RFC 3986 §2.2", "/v1/x%2f%2e%2e%2f..%2fadmin", Answered(400)),
        path("backslash", "CVE-2021-41773's kin", "/v1/..\\admin", Answered(400)),
        path("encoded backslash", "RFC 3986 §2.1", "/v1/..%5Cadmin", Answered(400)),
        path("encoded twice", "CVE-2021-42013", "/v1/%252e%252e/admin", to("/v1/%252e%252e/admin")),
        path("slash encoded twice", "CVE-2021-42013", "/v1/..%252fadmin", to("/v1/..%252fadmin")),
        path("half encoded", "CVE-2021-42013", "/v1/%%32%65%%32%65/admin", Answered(400)),
        path("Unicode's escape", "RFC 3986 §2.1", "/v1/%u002e%u002e/admin", Answered(400)),
        path(
            "overlong UTF-8",
            "RFC 3629 §10, CVE-2008-2938",
            "/v1/%c0%ae%c0%ae/admin",
            to("/v1/%C0%AE%C0%AE/admin"),
        ),
        path(
            "full-width dots",
            "RFC 3987 §3.1",
            "/v1/\u{ff0e}\u{ff0e}/admin",
            to("/v1/%EF%BC%8E%EF%BC%8E/admin"),
        ),
        path("parameter behind dots", "CVE-2020-17510's kin", "/v1/..;/admin", Answered(400)),
        path("parameter behind the prefix", "RFC 3986 §3.3", "/v1;a=b/x", Answered(400)),
        path("parameter", "RFC 3986 §3.3", "/v1/x;a=../..", Answered(400)),
        path("parameter, one segment", "RFC 3986 §3.3", "/v1/x;a=b", Answered(400)),
        path("parameter, encoded", "RFC 3986 §3.3", "/v1/x%3Ba=b/y", Answered(400)),
        path("NUL", "RFC 3986 §7.3", "/v1/x%00.json", Answered(400)),
        path("line end", "RFC 3986 §7.3", "/v1/x%0d%0ahost:elsewhere", Answered(400)),
        path("tab", "RFC 3986 §7.3", "/v1/x%09", Answered(400)),
        path(
            "line end in the query",
            "RFC 9112 §2.2",
            "/v1/x?a=%0d%0ahost:elsewhere",
            to("/v1/x?a=%0d%0ahost:elsewhere"),
        ),
        path("dots in the query", "RFC 3986 §3.4", "/v1/x?../../admin", to("/v1/x?../../admin")),
        path("encoded question mark", "RFC 3986 §2.2", "/v1/x%3fa", to("/v1/x%3Fa")),
        path("encoded hash", "RFC 3986 §2.2", "/v1/x%23a", to("/v1/x%23a")),
        path("encoded letters", "RFC 3986 §6.2.2.2", "/%76%31/%78", to("/v1/x")),
        path("encoded prefix and dots", "RFC 3986 §6.2.2.2", "/%76%31/%2e%2e/admin", Answered(404)),
        path("empty segments", "RFC 3986 §3.3", "//v1//x", to("/v1/x")),
        path("capital letters", "RFC 3986 §6.2.2.1", "/V1/x", Answered(404)),
        path("a longer segment", "RFC 3986 §3.3", "/v1x", Answered(404)),
        path("text in the query", "RFC 3986 §2.1", "/v1/x?a=\u{e9}", to("/v1/x?a=%C3%A9")),
        path("brackets in the query", "RFC 3986 §3.4", "/v1/x?a[]=b", to("/v1/x?a[]=b")),
        path("others in the query", "RFC 3986 §3.4", "/v1/x?a={b}|c", to("/v1/x?a={b}|c")),
    ])
    .await;
}
