//! Lingering close: the end of a connection whose client may still be sending. Incoming bytes are read and dropped, so that the
//! client gets to read the response.
//!
//! Closing a socket that holds unread bytes, or that receives more, makes the kernel send a reset, which may overtake the
//! response in the client's own buffers (RFC 9112 section 9.6). So the write side is closed first, and the read side after the
//! client has closed its own.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// Longest wait for the next bytes.
const SILENCE: Duration = Duration::from_secs(5);
/// Most bytes that are read and dropped.
const MOST: usize = 1 << 30;
/// Bytes read at a time; allocated only while lingering.
const CHUNK: usize = 64 * 1024;

/// Whether unread bytes wait in `tcp`. A byte that the kernel has not reported yet is missed; the connection is then closed
/// without lingering.
pub(super) fn unread(tcp: &TcpStream) -> bool {
    let mut byte = [0; 1];
    tcp.try_read(&mut byte).is_ok_and(|length| length > 0)
}

/// Closes the write side, then reads and drops until the client closes its side, for at most `longest`.
pub(super) async fn linger(tcp: &mut TcpStream, longest: Duration) {
    let drained = time::timeout(longest, async {
        tcp.shutdown().await?;
        drain(tcp).await
    });
    match drained.await {
        Ok(Ok(bytes)) => tracing::debug!(bytes, "lingering close: the client closed its side"),
        Ok(Err(error)) => tracing::debug!(%error, "lingering close: connection failed"),
        Err(_) => tracing::debug!("lingering close: time limit reached"),
    }
}

async fn drain(tcp: &mut TcpStream) -> io::Result<usize> {
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    while total < MOST {
        match time::timeout(SILENCE, tcp.read(&mut chunk)).await {
            Ok(Ok(0)) | Err(_) => break,
            Ok(read) => total += read?,
        }
    }
    Ok(total)
}
