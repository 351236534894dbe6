//! Plain HTTP on a port that expects TLS. Without a response that says so, clients report an unreadable TLS record or an empty reply.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::linger;

const BODY: &str = "TLS required: this port serves HTTPS only, and the request was sent as plain HTTP. Use a base URL that begins with https://\n";

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

/// Responds, and waits up to `longest` for the client to close its side.
pub(super) async fn refuse(tcp: &mut TcpStream, longest: Duration) -> io::Result<()> {
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    tcp.write_all(response.as_bytes()).await?;
    linger::linger(tcp, longest).await;
    Ok(())
}
