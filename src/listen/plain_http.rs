//! Plain HTTP on a port that expects TLS. Without a response that says so, clients report an unreadable TLS record or an empty reply.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::linger;
use crate::fault::{ErrorForm, Fault};

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

/// Responds, and waits up to `longest` for the client to close its side. The response is JSON, because the SDKs show no other message.
pub(super) async fn refuse(tcp: &mut TcpStream, longest: Duration) -> io::Result<()> {
    let (head, body) = Fault::TlsRequired.render(ErrorForm::OpenAi, "").into_parts();
    let mut response = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        response.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    response
        .extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    response.extend_from_slice(&body);
    tcp.write_all(&response).await?;
    linger::linger(tcp, longest).await;
    Ok(())
}
