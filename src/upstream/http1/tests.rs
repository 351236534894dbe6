//! However a message is cut on its way, it is read as the same one; and what connections are used for again.

use std::{future::poll_fn, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use http_body::Body as _;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    Framing, Http1, Http1Body, Http1Error, MAX_HEAD,
    chunks::{Chunks, Piece},
    head::{self, KnownNames, ResponseHead},
};
use crate::{
    body::{Outbound, UploadTally},
    upstream::dialer::Dialled,
    wait_queue::WaitQueue,
};

const SAFETY: Duration = Duration::from_secs(60);

/// What a chunked body is, read in pieces of these sizes, in turn: its data, its trailers, and the bytes behind it.
fn chunked(bytes: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Http1Error> {
    let (mut chunks, mut read, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
    let (mut left, mut sizes) = (bytes, sizes.iter().cycle());
    loop {
        match chunks.next(&mut read)? {
            Piece::Data(piece) => data.extend_from_slice(&piece),
            Piece::End(trailers) => {
                assert!(chunks.is_end());
                read.extend_from_slice(left);
                return Ok((data, trailers.unwrap_or_default(), read.to_vec()));
            }
            Piece::More if left.is_empty() => return Err(Http1Error::Incomplete),
            Piece::More => {
                let (now, later) = left.split_at((*sizes.next().unwrap()).clamp(1, left.len()));
                read.extend_from_slice(now);
                left = later;
            }
        }
    }
}

fn head_of(text: &str, method: &Method) -> Result<Option<ResponseHead>, Http1Error> {
    head::read(&mut BytesMut::from(text), method, &mut 0, &mut KnownNames::default())
}

fn get(text: &str) -> ResponseHead {
    head_of(text, &Method::GET).unwrap().unwrap()
}

#[test]
fn chunks_are_data() {
    const BODY: &[u8] =
        b"5\r\nhello\r\n06 ;a=\"b\"\r\n world\r\nA\t\r\n0123456789\r\n0\r\nx-a: 1\r\nX-B: 2\r\n\r\nnext";
    for size in [1, 2, 3, 7, 1000] {
        let (data, trailers, rest) = chunked(BODY, &[size]).unwrap();
        assert_eq!(data, b"hello world0123456789");
        assert_eq!((&trailers["x-a"], &trailers["x-b"]), (&"1".parse().unwrap(), &"2".parse().unwrap()));
        assert_eq!(rest, b"next");
    }
}

#[test]
fn the_end_is_known_with_the_last_byte() {
    let (mut chunks, mut read) = (Chunks::default(), BytesMut::from("2\r\nab\r\n0\r\n\r\n"));
    assert!(matches!(chunks.next(&mut read), Ok(Piece::Data(data)) if data == "ab"));
    assert!(chunks.is_end() && read.is_empty());
    assert!(matches!(chunks.next(&mut read), Ok(Piece::End(None))));
}

#[test]
fn what_is_no_chunked_body_is_refused() {
    for body in [
        "\r\n0\r\n\r\n",
        "g\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 2\r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\ra\r\n0\r\n\r\n",
        "1;a\nb\r\na\r\n0\r\n\r\n",
        "1;a\rb\r\na\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "10000000000000000\r\na",
        "0\r\n\rx",
        "0\r\nno trailer\r\n\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\n\nHTTP/1.1 200 OK\r\n\r\n",
        "0\r\na: b\n\nHTTP/1.1 200 OK\r\nx: y\r\n\r\n",
    ] {
        for size in [1, 1000] {
            let error = chunked(body.as_bytes(), &[size]).unwrap_err();
            assert!(matches!(error, Http1Error::Chunk(_)), "{body:?}: {error}");
        }
    }
}

#[test]
fn lines_that_never_end_are_refused() {
    for body in [
        "0".repeat(20_000),
        format!("1;{}", "x".repeat(20_000)),
        format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(17),
        format!("0\r\na: {}", "x".repeat(20_000)),
        format!("0\r\n{}\r\n", "a: b\r\n".repeat(101)),
    ] {
        let error = chunked(body.as_bytes(), &[500]).unwrap_err();
        assert!(matches!(error, Http1Error::Chunk(_)), "{}: {error}", &body[..10]);
    }
}

proptest! {
    #[test]
    fn no_cut_changes_a_chunked_body(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        sizes in prop::collection::vec(1..30_usize, 1..10),
        is_extended: bool,
        behind in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        let mut bytes = Vec::new();
        for piece in &pieces {
            bytes.extend_from_slice(format!("{:x}{}\r\n", piece.len(), if is_extended { ";a=b" } else { "" }).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes.extend_from_slice(&behind);
        let (data, trailers, rest) = chunked(&bytes, &sizes).unwrap();
        prop_assert_eq!(data, pieces.concat());
        prop_assert!(trailers.is_empty());
        prop_assert_eq!(rest, behind);
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        bytes in prop::collection::vec(prop::sample::select(b"0123af;\r\n x:\t".to_vec()), 0..60),
        sizes in prop::collection::vec(1..10_usize, 1..10),
    ) {
        let (whole, cut) = (chunked(&bytes, &[1000]), chunked(&bytes, &sizes));
        match (whole, cut) {
            (Ok(whole), Ok(cut)) => prop_assert_eq!(whole, cut),
            (whole, cut) => prop_assert_eq!(whole.is_err(), cut.is_err()),
        }
    }

    #[test]
    fn any_bytes_are_a_head_or_refused_or_wanted_more_of(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        begins: bool,
    ) {
        let start: &[u8] = if begins { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        let mut read = BytesMut::from(&[start, &bytes].concat()[..]);
        let error = head::read(&mut read, &Method::GET, &mut 0, &mut KnownNames::default()).err();
        prop_assert!(error.is_none_or(|error| error.is_unreadable()));
    }
}

#[test]
fn heads_are_read() {
    let head = get(
        "HTTP/1.1 404 Nothing here\r\nContent-Length: 7\r\nX-Folded: a\r\n  b\r\n\tc \r\nX-Space : d\r\nx-a:1\r\nx-a:2\r\n\r\n",
    );
    assert_eq!((head.response.status(), head.response.version()), (StatusCode::NOT_FOUND, Version::HTTP_11));
    let headers = head.response.headers();
    assert_eq!(
        (&headers["x-folded"], &headers["x-space"]),
        (&"a b c".parse().unwrap(), &"d".parse().unwrap())
    );
    assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert!(matches!(head.framing, Framing::Length(7)) && head.keep_alive);
    let reason = head.response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
    assert_eq!(reason.as_bytes(), b"Nothing here");
}

#[test]
fn names_that_are_known_are_the_same_names() {
    let mut names = KnownNames::default();
    let mut read = |lines: &str| {
        let mut bytes = BytesMut::from(&*format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        let head = head::read(&mut bytes, &Method::GET, &mut 0, &mut names).unwrap().unwrap();
        let lines = head.response.headers().iter();
        lines.map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(read("Content-Type: a\r\nX-Id: 1\r\n"), ["content-type=a", "x-id=1"]);
    assert_eq!(read("content-type: b\r\nx-iD: 2\r\n"), ["content-type=b", "x-id=2"]);
    assert_eq!(read("x-id: 3\r\n"), ["x-id=3"]);
    assert_eq!(read("x-id: 4\r\nx-i: 5\r\nx-idx: 6\r\n"), ["x-id=4", "x-i=5", "x-idx=6"]);
}

#[test]
fn the_head_says_how_the_body_ends() {
    let framing = |method: &Method, status: &str, lines: &str| {
        let head = head_of(&format!("HTTP/1.1 {status}\r\n{lines}\r\n"), method);
        head.map_or_else(|error| error.to_string(), |head| format!("{:?}", head.unwrap().framing))
    };
    let get = |lines: &str| framing(&Method::GET, "200 OK", lines);
    assert_eq!(get("content-length: 5\r\n"), "Length(5)");
    assert_eq!(get("content-length: 5, 5\r\ncontent-length: 5\r\n"), "Length(5)");
    for lines in ["5, 6", "", "-1", "+1", "0x5", "5 5", "18446744073709551616"] {
        assert!(get(&format!("content-length: {lines}\r\n")).contains("invalid content-length"), "{lines}");
    }
    assert!(get("content-length: 5\r\ntransfer-encoding: gzip, Chunked\r\n").starts_with("Chunked"));
    assert_eq!(get("transfer-encoding: chunked, gzip\r\n"), "UntilClose");
    assert_eq!(get(""), "UntilClose");
    assert_eq!(framing(&Method::HEAD, "200 OK", "content-length: 5\r\n"), "Length(0)");
    assert_eq!(framing(&Method::GET, "204 No Content", "content-length: 5\r\n"), "Length(0)");
    assert_eq!(framing(&Method::GET, "304 Not Modified", "transfer-encoding: chunked\r\n"), "Length(0)");
    assert_eq!(framing(&Method::GET, "101 Switching Protocols", ""), "Switched");
    let old = head_of("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &Method::GET);
    assert!(matches!(old, Err(Http1Error::Coding)));
}

#[test]
fn the_head_says_whether_the_connection_stays_open() {
    let keeps = |version: &str, line: &str| get(&format!("HTTP/{version} 200 OK\r\n{line}\r\n")).keep_alive;
    assert!(keeps("1.1", "") && keeps("1.1", "connection: keep-alive\r\n"));
    assert!(!keeps("1.1", "connection: x, Close\r\n"));
    assert!(!keeps("1.1", "connection: close\r\nconnection: keep-alive\r\n"));
    assert!(!keeps("1.0", "") && keeps("1.0", "connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "connection: keep-alive\r\nconnection: close\r\n"));
    assert!(!keeps("1.1", "content-length: 5\r\ntransfer-encoding: chunked\r\n"));
}

#[test]
fn interim_responses_are_skipped_and_heads_are_bounded() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
    assert_eq!(get(&format!("{interim}HTTP/1.1 200 OK\r\n\r\n")).response.status(), StatusCode::OK);
    assert!(head_of(interim, &Method::GET).unwrap().is_none());
    assert!(head_of("", &Method::GET).unwrap().is_none());
    let large = |length: usize| format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(length));
    assert!(head_of(&large(MAX_HEAD - 100), &Method::GET).unwrap().is_none());
    assert!(head_of(&format!("{}\r\n\r\n", large(MAX_HEAD - 100)), &Method::GET).unwrap().is_some());
    for end in ["", "\r\n\r\n"] {
        let too_large = head_of(&format!("{}{end}", large(MAX_HEAD)), &Method::GET);
        assert!(matches!(too_large, Err(Http1Error::HeadTooLarge)));
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert!(matches!(head_of(&many, &Method::GET), Err(Http1Error::Head(_))));
}

/// A connection, and the upstream's side of it.
async fn connected() -> (Box<Http1>, TcpStream) {
    let to = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(to.local_addr().unwrap()).await.unwrap();
    let (far, _) = to.accept().await.unwrap();
    let permit = Arc::<WaitQueue>::default().try_take(None).unwrap();
    let socket = tokio_util::either::Either::Left(near);
    (Http1::new(Dialled { socket, permit, expires: None }), far)
}

fn post(body: Outbound) -> Request<Outbound> {
    Request::post("/v1/x?y").header(header::HOST, "a").body(body).unwrap()
}

async fn read_to(far: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(timeout(SAFETY, far.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(read).unwrap()
}

async fn whole(mut body: Http1Body) -> (String, Http1Body) {
    let mut data = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
        data.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    (String::from_utf8(data).unwrap(), body)
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_response() {
    let (mut connection, mut far) = connected().await;
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let upstream = async {
            let request = read_to(&mut far, "asked").await;
            far.write_all(answer.as_bytes()).await.unwrap();
            request
        };
        let (response, request) =
            tokio::join!(connection.send(post(Outbound::Whole(Some("asked".into())))), upstream);
        assert_eq!(request, "POST /v1/x?y HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nasked");
        let (text, body) = whole(response.unwrap().into_body()).await;
        assert_eq!(text, "hello");
        assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
        connection = body.into_reusable().unwrap();
    }
    assert_eq!(connection.read.capacity(), 0, "nothing is kept for what may come");
}

#[tokio::test]
async fn a_connection_is_not_used_again_when_it_may_not_be() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, and more",
    ] {
        let (connection, mut far) = connected().await;
        let upstream = async {
            read_to(&mut far, "\r\n\r\n").await;
            far.write_all(answer.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(connection.send(post(Outbound::EMPTY)), upstream);
        let (text, body) = whole(response.unwrap().into_body()).await;
        assert_eq!(text, "hello");
        assert!(body.into_reusable().is_none(), "{answer}");
    }
}

#[tokio::test]
async fn a_response_without_a_length_ends_with_its_connection() {
    let (connection, mut far) = connected().await;
    let upstream = async {
        read_to(&mut far, "\r\n\r\n").await;
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
        drop(far);
    };
    let (response, ()) = tokio::join!(connection.send(post(Outbound::EMPTY)), upstream);
    let body = response.unwrap().into_body();
    assert!(!body.is_end_stream());
    let (text, body) = whole(body).await;
    assert_eq!(text, "hello");
    assert!(body.is_end_stream() && body.into_reusable().is_none());
}

#[tokio::test]
async fn a_response_that_breaks_off_is_incomplete() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let (connection, mut far) = connected().await;
        let upstream = async {
            read_to(&mut far, "\r\n\r\n").await;
            far.write_all(answer.as_bytes()).await.unwrap();
            drop(far);
        };
        let (response, ()) = tokio::join!(connection.send(post(Outbound::EMPTY)), upstream);
        let mut body = response.unwrap().into_body();
        let first = poll_fn(|cx| body.poll_frame(cx)).await;
        assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "hello");
        let second = poll_fn(|cx| body.poll_frame(cx)).await;
        assert!(matches!(second, Some(Err(Http1Error::Incomplete))));
    }
}

#[tokio::test]
async fn a_request_of_which_nothing_was_written_comes_back() {
    for length in [5, 1 << 20] {
        let (connection, far) = connected().await;
        far.set_zero_linger().unwrap();
        drop(far);
        let request = post(Outbound::held(vec![b'x'; length].into(), &Rc::default()));
        let (no_response, connection) = connection.send(request).await.unwrap_err();
        assert!(!no_response.error.is_unreadable() && !connection.answered());
        let Some(request) = no_response.request else { panic!("{no_response:?}") };
        assert_eq!(request.body().size_hint().exact(), Some(length as u64));
    }
}

#[tokio::test]
async fn a_large_body_is_written_whole_and_shows_when_it_moves() {
    const LENGTH: usize = 8 << 20;
    let bytes: Bytes = (0..=250).cycle().take(LENGTH).collect::<Vec<u8>>().into();
    for coding in ["content-length", "transfer-encoding"] {
        let (connection, mut far) = connected().await;
        let tally = Rc::<UploadTally>::default();
        let mut request = post(Outbound::held(bytes.clone(), &tally));
        let value = if coding == "content-length" { LENGTH.to_string() } else { "chunked".to_owned() };
        request.headers_mut().insert(coding, value.parse().unwrap());
        let upstream = async {
            let head = read_to(&mut far, "\r\n\r\n").await;
            assert!(head.contains(&format!("{coding}: {value}")), "{head}");
            if coding == "transfer-encoding" {
                assert_eq!(read_to(&mut far, "\r\n").await, format!("{LENGTH:x}\r\n"));
            }
            let begun = tally.moved().unwrap();
            let mut read = vec![0; LENGTH];
            far.read_exact(&mut read).await.unwrap();
            assert!(read == bytes && tally.moved().unwrap() > begun);
            if coding == "transfer-encoding" {
                read_to(&mut far, "\r\n0\r\n\r\n").await;
            }
            far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        };
        let (response, ()) = tokio::join!(connection.send(request), upstream);
        let (text, body) = whole(response.unwrap().into_body()).await;
        assert!(text == "ok" && body.into_reusable().is_some());
    }
}

#[tokio::test]
async fn a_request_that_was_written_does_not_come_back() {
    let (connection, mut far) = connected().await;
    let upstream = async {
        read_to(&mut far, "\r\n\r\n").await;
        drop(far);
    };
    let (answered, ()) = tokio::join!(connection.send(post(Outbound::EMPTY)), upstream);
    let (no_response, connection) = answered.unwrap_err();
    assert!(matches!(no_response.error, Http1Error::NoHead) && no_response.request.is_none());
    assert!(!connection.answered());
}

#[tokio::test]
async fn a_response_may_come_before_the_request_is_sent() {
    let (connection, mut far) = connected().await;
    let tally = Rc::default();
    let large = Outbound::held(vec![b'x'; 8 << 20].into(), &tally);
    let upstream = async {
        read_to(&mut far, "\r\n\r\n").await;
        far.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        far
    };
    let (response, far) = tokio::join!(connection.send(post(large)), upstream);
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let (text, body) = whole(response.into_body()).await;
    assert_eq!(text, "no");
    assert!(body.into_reusable().is_none(), "the request is not sent");
    drop(far);
}

/// As a connection that was given to a waiter in the meantime.
#[tokio::test]
async fn nothing_is_written_where_something_came_before_the_request() {
    for early in ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother", "HTTP/1.1 408 Timeout\r\n\r\n", ""] {
        let (connection, mut far) = connected().await;
        far.write_all(early.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        timeout(SAFETY, poll_fn(|cx| connection.io.poll_readable(cx))).await.unwrap();
        let (no_response, connection) = connection.send(post(Outbound::EMPTY)).await.unwrap_err();
        assert!(no_response.request.is_some() && !connection.answered());
        drop(connection);
        let mut read = Vec::new();
        timeout(SAFETY, far.read_to_end(&mut read)).await.unwrap().ok();
        assert!(read.is_empty());
    }
}

#[tokio::test]
async fn a_head_that_comes_in_bytes_is_read_when_its_end_has_come() {
    let (mut read, mut searched, mut names) = (BytesMut::new(), 0, KnownNames::default());
    let text = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(30_000));
    for (number, byte) in text.bytes().enumerate() {
        read.extend_from_slice(&[byte]);
        let head = head::read(&mut read, &Method::GET, &mut searched, &mut names).unwrap();
        assert_eq!(head.is_some(), number == text.len() - 1, "{number}");
    }
}

#[tokio::test]
async fn a_closed_connection_is_not_usable() {
    let (mut connection, far) = connected().await;
    assert!(connection.is_usable());
    drop(far);
    timeout(SAFETY, async {
        while connection.is_usable() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
