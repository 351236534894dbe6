//! Plain HTTP on a port that expects TLS. Without a response that says so, clients report an unreadable TLS record or an empty reply.

use std::{future::poll_fn, io, task::Poll};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, header};
use tokio::{
    io::{AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use super::linger;
use crate::{
    fault::{ErrorForm, Fault, Recipient},
    snapshot::Snapshot,
};

/// As much of the request as is searched for its `accept-language`, in bytes.
const MOST_SEARCHED: usize = 4 << 10;

/// Whether the client begins with an HTTP request instead of TLS: HTTP methods begin with a capital letter, and TLS with the type of
/// a record, which is none (20 to 24, RFC 8446 section 5.1). Leaves what has arrived unread; `ahead` was read before.
pub(super) async fn is_plain_http(tcp: &TcpStream, ahead: &BytesMut) -> io::Result<bool> {
    let mut first = [0; 1];
    match ahead.first() {
        Some(byte) => first = [*byte],
        // A connection that ends here leaves the 0, and TLS reports its end.
        None => _ = tcp.peek(&mut first).await?,
    }
    Ok(first[0].is_ascii_uppercase())
}

/// Responds, and waits for the client to close its side. The response is JSON, because the SDKs show no other message.
pub(super) async fn refuse(tcp: &mut TcpStream, snapshot: &Snapshot) -> io::Result<()> {
    let languages = snapshot.errors.languages_for(&accept_language(tcp).await);
    let recipient = Recipient {
        form: ErrorForm::OpenAi,
        request_id: "",
        languages: &languages,
        rules: &snapshot.errors.rules,
        upstream: None,
    };
    let (head, body) = Fault::TlsRequired.render(recipient).into_parts();
    let mut response = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        response.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    response
        .extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    response.extend_from_slice(&body);
    tcp.write_all(&response).await?;
    linger::linger(tcp, snapshot.server.linger).await;
    Ok(())
}

/// The `accept-language` of the request, if it has arrived already. Nothing is read and nothing is waited for.
async fn accept_language(tcp: &TcpStream) -> HeaderMap {
    let mut space = vec![0; MOST_SEARCHED];
    let mut seen = ReadBuf::new(&mut space);
    poll_fn(|cx| {
        let _ = tcp.poll_peek(cx, &mut seen);
        Poll::Ready(())
    })
    .await;
    let mut headers = HeaderMap::new();
    for line in seen.filled().split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"accept-language"));
        let value =
            parts.next().filter(|_| is_it).and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        headers.extend(value.map(|value| (header::ACCEPT_LANGUAGE, value)));
    }
    headers
}
