//! HTTP/2 (RFC 9113) over the `h2` crate.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    connection::Place,
    record::Ended,
    respond::{self, Request},
    script::{Cut, Framing, Head, WHOLE},
    shared::Shared,
    socket::Socket,
    upload::Upload,
    wire::Wire,
};

/// Windows and limits: room enough that only the other side's own make a script wait.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// Orders that wait for the connection; a stream gives one at a time.
const MAX_ORDERS: usize = 16;

/// Answers one connection's requests, each in a task of its own.
pub(super) async fn serve(socket: Socket, mut place: Place, shared: &Arc<Shared>) {
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(shared.max_streams)
        .max_header_list_size(MAX_HEADER_LIST)
        .handshake::<_, Bytes>(socket);
    let Ok(mut connection) = handshake.await else { return };
    let (give, mut orders) = mpsc::channel(MAX_ORDERS);
    let mut streams = JoinSet::new();
    let mut held = None;
    loop {
        match poll_fn(|cx| next(&mut connection, &mut orders, &mut held, cx)).await {
            Next::Request(request, respond) => {
                place.next_request();
                while streams.try_join_next().is_some() {}
                streams.spawn(answer(request, respond, (place.clone(), give.clone()), Arc::clone(shared)));
            }
            // A stream that no longer waits for its order needs no word.
            Next::Order(Order::Flush(done)) => drop(done.send(())),
            Next::Order(Order::Close) => connection.abrupt_shutdown(Reason::NO_ERROR),
            Next::Closed => break,
        }
    }
    drop(connection);
    // Those still running find the connection gone, write their ends down, and finish.
    while streams.join_next().await.is_some() {}
}

/// What a stream wants of its connection.
enum Order {
    /// To be told when all that was sent before is written.
    Flush(oneshot::Sender<()>),
    /// `GOAWAY`, and the end of the connection.
    Close,
}

#[expect(clippy::large_enum_variant, reason = "lives for one turn of the loop, on the stack")]
enum Next {
    Request(http::Request<RecvStream>, SendResponse<Bytes>),
    Order(Order),
    Closed,
}

/// Takes an order, *then* drives the connection, and only then gives the order out: what its stream had sent before
/// has been written by then, unless the socket is full.
fn next(
    connection: &mut Connection<Socket, Bytes>,
    orders: &mut mpsc::Receiver<Order>,
    held: &mut Option<Order>,
    cx: &mut Context<'_>,
) -> Poll<Next> {
    if held.is_none()
        && let Poll::Ready(Some(order)) = orders.poll_recv(cx)
    {
        *held = Some(order);
    }
    match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Next::Request(request, respond)),
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Next::Closed),
        Poll::Pending => held.take().map_or(Poll::Pending, |order| Poll::Ready(Next::Order(order))),
    }
}

async fn answer(
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    (place, orders): (Place, mpsc::Sender<Order>),
    shared: Arc<Shared>,
) {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string);
    let request = Request {
        target,
        version: Version::HTTP_2,
        authority: parts.uri.authority().map(ToString::to_string),
        headers: parts.headers,
        head: Bytes::new(),
        method: parts.method,
    };
    let bodiless = request.method == Method::HEAD;
    let mut wire = Stream { body, respond, answer: None, upload: Upload::new(), bodiless, orders };
    respond::respond(&mut wire, request, &place, &shared).await;
}

/// One request's stream.
struct Stream {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// Once the answer has begun.
    answer: Option<SendStream<Bytes>>,
    upload: Upload,
    /// The request is one whose answer has no body.
    bodiless: bool,
    orders: mpsc::Sender<Order>,
}

impl Stream {
    fn reset(&mut self, reason: Reason) {
        match &mut self.answer {
            Some(answer) => answer.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let reset = match &mut self.answer {
            Some(answer) => answer.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(|reset| reset.map_or_else(|error| left(&error), |_| Ended::PeerReset))
    }

    /// Why the window will not open any more.
    async fn why_gone(&mut self) -> Ended {
        poll_fn(|cx| match self.poll_gone(cx) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Ready(Ended::PeerClosed),
        })
        .await
    }
}

impl Wire for Stream {
    async fn read_body(&mut self, up_to: u64) -> Result<(), Ended> {
        let mut left_over = up_to;
        while left_over > 0 && !self.upload.complete() {
            match self.body.data().await {
                Some(Ok(bytes)) => {
                    left_over = left_over.saturating_sub(bytes.len() as u64);
                    self.upload.take(&bytes);
                    // Fails only for more than was received.
                    let _ = self.body.flow_control().release_capacity(bytes.len());
                }
                Some(Err(error)) => return Err(left(&error)),
                None => {
                    let trailers = self.body.trailers().await.map_err(|error| left(&error))?;
                    self.upload.finish(trailers.unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    fn upload(&self) -> &Upload {
        &self.upload
    }

    async fn inform(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Ended> {
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        *interim.headers_mut() = headers.clone();
        self.respond.send_informational(interim).map_err(|error| refused(&error))
    }

    async fn head(&mut self, head: &Head) -> Result<(), Ended> {
        if self.answer.is_some() {
            return Err(Ended::BadScript);
        }
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers.clone();
        // Belongs to HTTP/1.1 alone (RFC 9113, section 8.2.2).
        response.headers_mut().remove(header::CONNECTION);
        if let Framing::Known(length) = head.framing {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let ends = self.bodiless || head.framing == Framing::Bare;
        self.bodiless = ends;
        let answer = self.respond.send_response(response, ends).map_err(|error| refused(&error))?;
        self.answer = Some(answer);
        Ok(())
    }

    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Ended> {
        if self.bodiless {
            return Ok(());
        }
        while !bytes.is_empty() {
            let answer = self.answer.as_mut().ok_or(Ended::BadScript)?;
            answer.reserve_capacity(bytes.len());
            let room = match answer.capacity() {
                0 => match poll_fn(|cx| answer.poll_capacity(cx)).await {
                    Some(Ok(room)) => room,
                    Some(Err(error)) => return Err(left(&error)),
                    None => return Err(self.why_gone().await),
                },
                room => room,
            };
            let piece = bytes.split_to(room.min(bytes.len()));
            if answer.send_data(piece, false).is_err() {
                return Err(self.why_gone().await);
            }
        }
        Ok(())
    }

    async fn raw(&mut self, _bytes: Bytes) -> Result<(), Ended> {
        self.reset(Reason::INTERNAL_ERROR);
        Err(Ended::BadScript)
    }

    /// Frames go out when the connection is next driven, which needs no asking.
    async fn flush(&mut self) -> Result<(), Ended> {
        Ok(())
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Ended> {
        let answer = self.answer.as_mut().ok_or(Ended::BadScript)?;
        if !self.bodiless {
            let ended = match trailers {
                Some(trailers) => answer.send_trailers(trailers),
                None => answer.send_data(Bytes::new(), true),
            };
            if ended.is_err() {
                return Err(self.why_gone().await);
            }
        }
        self.read_body(WHOLE).await
    }

    async fn gone(&mut self) -> Ended {
        poll_fn(|cx| self.poll_gone(cx)).await
    }

    async fn cut(&mut self, cut: Cut) -> Ended {
        // `RST_STREAM` throws away what waits to be written, so that has to go out first.
        let (done, written) = oneshot::channel();
        if self.orders.send(Order::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
        match cut {
            Cut::Reset => self.reset(Reason::INTERNAL_ERROR),
            Cut::ChunkError => self.reset(Reason::PROTOCOL_ERROR),
            Cut::NoError => self.reset(Reason::NO_ERROR),
            Cut::Close => {
                let _ = self.orders.send(Order::Close).await;
                // Dropped any sooner, the stream would be reset before the connection is closed.
                self.gone().await;
            }
        }
        Ended::CutByScript(cut)
    }
}

/// How the other side left, by the error it left behind.
fn left(error: &h2::Error) -> Ended {
    if error.is_reset() && error.is_remote() { Ended::PeerReset } else { Ended::PeerClosed }
}

/// An answer that `h2` would not send: the script is at fault, or the other side has left.
fn refused(error: &h2::Error) -> Ended {
    if error.is_io() || error.is_remote() || error.is_go_away() { left(error) } else { Ended::BadScript }
}
