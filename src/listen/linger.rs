//! The end of a connection whose caller may still be sending: what comes is read and dropped, so that it reads the answer.
//!
//! Closing a socket that holds unread bytes, or that receives more, makes the kernel send a reset, which may overtake the answer in the
//! caller's own buffers (RFC 9112 section 9.6). So the write side is closed first and the read side only after the caller's.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// The longest silence.
const SILENCE: Duration = Duration::from_secs(5);
/// The most that is read.
const MOST: usize = 1 << 30;
/// At a time; on the heap and only while lingering.
const CHUNK: usize = 64 * 1024;

/// Whether bytes wait in `tcp` unread. One that the kernel has not yet told of is missed, which costs no more than closing did before.
pub(super) fn unread(tcp: &TcpStream) -> bool {
    let mut byte = [0; 1];
    tcp.try_read(&mut byte).is_ok_and(|length| length > 0)
}

/// Closes the write side, then reads and drops until the caller closes, for at most `longest`.
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
