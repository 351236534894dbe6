//! Clients behind a network that is slow and steady.

use std::{net::SocketAddr, time::Duration};

use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::TcpSocket,
    time::sleep,
};

use super::{
    support::*,
    tls::{Client, authority, certificate, listener, tls},
};
use crate::{
    config,
    snapshot::{Listener, Tickets},
};

const STALL: Duration = Duration::from_secs(2);
/// One KiB of a response takes this long. Linux wakes the gateway's writer after about 8 KiB of such a connection, which is later than `STALL`.
const PACE: Duration = Duration::from_millis(300);
/// Takes several times `STALL`.
const READ: usize = 24 << 10;

fn impatient() -> config::Server {
    config::Server { write_stall: STALL, ..server() }
}

/// A connection through which the gateway's bytes come one KiB at a time, and no more than 4 KiB are on the way.
async fn through_a_slow_network(address: SocketAddr) -> DuplexStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let (mut from, mut to) = socket.connect(address).await.unwrap().into_split();
    let (client, network) = duplex(1 << 10);
    let (mut requests, mut answers) = tokio::io::split(network);
    tokio::spawn(async move { tokio::io::copy(&mut requests, &mut to).await });
    tokio::spawn(async move {
        let mut piece = [0; 1 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            answers.write_all(&piece[..length]).await.unwrap();
            sleep(PACE).await;
        }
    });
    client
}

async fn read_by_http1(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    send(&mut io, get("/flood")).await;
    safely(io.read_exact(&mut vec![0; READ])).await.unwrap();
}

async fn read_by_http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut requests = http2(io).await;
    let mut flood = safely(get2(&mut requests, "/flood")).await.unwrap().into_body();
    let mut left = READ;
    while left > 0 {
        let frame = safely(flood.frame()).await.unwrap().unwrap();
        left = left.saturating_sub(frame.into_data().unwrap().len());
    }
}

async fn by_tls(
    ca: &super::tls::Authority,
    alpn: &[u8],
    setup: &Setup,
) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let client = Client::with(ca, None, &[alpn], rustls::ALL_VERSIONS);
    let network = through_a_slow_network(setup.address()).await;
    client.connector.connect(ServerName::try_from("a.test").unwrap(), network).await.unwrap()
}

#[tokio::test]
async fn who_reads_slowly_and_steadily_is_never_cut() {
    let setup = Setup::new(impatient(), plain());
    let setup2 = Setup::new(impatient(), Listener { h2c: true, ..plain() });
    let ca = authority();
    let tls = tls(vec![certificate(&ca, &["a.test"])]);
    let secure = Setup::new(impatient(), listener(&tls, &mut Tickets::default()));
    tokio::join!(
        async { read_by_http1(through_a_slow_network(setup.address()).await).await },
        async { read_by_http2(through_a_slow_network(setup2.address()).await).await },
        async { read_by_http1(by_tls(&ca, b"http/1.1", &secure).await).await },
        async { read_by_http2(by_tls(&ca, b"h2", &secure).await).await },
    );
    for setup in [setup, setup2, secure] {
        setup.counted(|counters| &counters.write_stalled, 0).await;
    }
}
