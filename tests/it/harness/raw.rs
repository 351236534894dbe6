//! A client that writes and reads bytes, for what a well-made client would not send or not show.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{CLIENT_KEY, safely};

/// A TCP connection to a gateway.
pub struct Raw {
    pub tcp: TcpStream,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp }
    }

    /// Writes `bytes`.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        safely(self.tcp.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Writes a POST with the caller's key, a JSON body and, between them, `headers` (each with its line end).
    pub async fn post(&mut self, version: &str, path: &str, headers: &str, body: &str) {
        self.write(format!(
            "POST {path} {version}\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        ))
        .await;
    }

    /// Reads to the connection's end; with the error that it ended with, if it was not closed in order.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut bytes = Vec::new();
        let ended = safely(self.tcp.read_to_end(&mut bytes)).await;
        (bytes, ended.err().map(|error| error.kind()))
    }

    /// Reads until `end` is the end of what came.
    pub async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let read = safely(self.tcp.read_buf(&mut bytes)).await.unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8(bytes).unwrap()
    }
}
