//! HTTP/2 (RFC 9113) on the `h2` crate.

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
    ending::{Cut, Ended},
    request::{Request, RequestOrigin},
    respond::respond,
    script::{Framing, Head, WHOLE},
    shared::Shared,
    socket::Socket,
    upload::Upload,
    wire::Wire,
};

/// Windows and limits, so large that only the client's limits make a script wait.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// The most commands that wait for the connection. Each stream sends one at a time.
const MAX_COMMANDS: usize = 16;

/// Responds to the requests on a connection, each in a task of its own.
pub(super) async fn serve(socket: Socket, mut origin: RequestOrigin, shared: &Arc<Shared>) {
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(shared.max_streams)
        .max_header_list_size(MAX_HEADER_LIST)
        .handshake::<_, Bytes>(socket);
    let Ok(mut connection) = handshake.await else { return };
    let (send_command, mut commands) = mpsc::channel(MAX_COMMANDS);
    let mut streams = JoinSet::new();
    let mut pending = None;
    loop {
        match poll_fn(|cx| next_event(&mut connection, &mut commands, &mut pending, cx)).await {
            Event::Request(request, responder) => {
                origin.next_request();
                while streams.try_join_next().is_some() {}
                let (head, body) = request.into_parts();
                let stream = Stream::new(body, responder, send_command.clone());
                streams.spawn(stream.serve(head, origin.clone(), Arc::clone(shared)));
            }
            // Fails only if the stream no longer waits.
            Event::Command(ConnectionCommand::Flush(done)) => drop(done.send(())),
            Event::Command(ConnectionCommand::Close) => connection.abrupt_shutdown(Reason::NO_ERROR),
            Event::Closed => break,
        }
    }
    drop(connection);
    // The remaining streams find the connection closed, record how their requests ended, and finish.
    while streams.join_next().await.is_some() {}
}

/// What a stream asks its connection to do.
enum ConnectionCommand {
    /// Reply when everything sent before has been written.
    Flush(oneshot::Sender<()>),
    /// Send `GOAWAY` and close the connection.
    Close,
}

#[expect(clippy::large_enum_variant, reason = "lives for one turn of the loop, on the stack")]
enum Event {
    Request(http::Request<RecvStream>, SendResponse<Bytes>),
    Command(ConnectionCommand),
    Closed,
}

/// Receives a command, *then* drives the connection, and only then returns the command. What its stream had sent before
/// has been written by then, unless the socket's send buffer is full.
fn next_event(
    connection: &mut Connection<Socket, Bytes>,
    commands: &mut mpsc::Receiver<ConnectionCommand>,
    pending: &mut Option<ConnectionCommand>,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    if pending.is_none()
        && let Poll::Ready(Some(command)) = commands.poll_recv(cx)
    {
        *pending = Some(command);
    }
    match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok((request, responder)))) => Poll::Ready(Event::Request(request, responder)),
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Event::Closed),
        Poll::Pending => pending.take().map_or(Poll::Pending, |command| Poll::Ready(Event::Command(command))),
    }
}

/// The stream of one request.
struct Stream {
    request_body: RecvStream,
    responder: SendResponse<Bytes>,
    /// The body of the response; `None` until the response begins.
    response_body: Option<SendStream<Bytes>>,
    upload: Upload,
    /// Whether the response has no body.
    no_body: bool,
    commands: mpsc::Sender<ConnectionCommand>,
}

impl Stream {
    fn new(
        request_body: RecvStream,
        responder: SendResponse<Bytes>,
        commands: mpsc::Sender<ConnectionCommand>,
    ) -> Self {
        let upload = Upload::new();
        Self { request_body, responder, response_body: None, upload, no_body: false, commands }
    }

    /// Responds to the request with this head.
    async fn serve(mut self, head: http::request::Parts, origin: RequestOrigin, shared: Arc<Shared>) {
        let target = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
        let request = Request {
            target,
            version: Version::HTTP_2,
            authority: head.uri.authority().map(ToString::to_string),
            headers: head.headers,
            head: Bytes::new(),
            method: head.method,
        };
        self.no_body = request.method == Method::HEAD;
        respond(&mut self, request, &origin, &shared).await;
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.response_body {
            Some(body) => body.send_reset(reason),
            None => self.responder.send_reset(reason),
        }
    }

    fn poll_peer_gone(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let reset = match &mut self.response_body {
            Some(body) => body.poll_reset(cx),
            None => self.responder.poll_reset(cx),
        };
        reset.map(|reset| reset.map_or_else(|error| peer_left(&error), |_| Ended::PeerReset))
    }

    /// Why the flow-control window cannot open any more.
    async fn why_closed(&mut self) -> Ended {
        poll_fn(|cx| match self.poll_peer_gone(cx) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Ready(Ended::PeerClosed),
        })
        .await
    }
}

impl Wire for Stream {
    async fn read_body(&mut self, up_to: u64) -> Result<(), Ended> {
        let mut remaining = up_to;
        while remaining > 0 && !self.upload.complete() {
            match self.request_body.data().await {
                Some(Ok(bytes)) => {
                    remaining = remaining.saturating_sub(bytes.len() as u64);
                    self.upload.take(&bytes);
                    // Fails only if more is released than was received.
                    let _ = self.request_body.flow_control().release_capacity(bytes.len());
                }
                Some(Err(error)) => return Err(peer_left(&error)),
                None => {
                    let trailers = self.request_body.trailers().await.map_err(|error| peer_left(&error))?;
                    self.upload.finish(trailers.unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    fn upload(&self) -> &Upload {
        &self.upload
    }

    async fn informational(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Ended> {
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        *interim.headers_mut() = headers.clone();
        self.responder.send_informational(interim).map_err(|error| send_failed(&error))
    }

    async fn head(&mut self, head: &Head) -> Result<(), Ended> {
        if self.response_body.is_some() {
            return Err(Ended::BadScript);
        }
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers.clone();
        // HTTP/2 forbids it (RFC 9113, section 8.2.2).
        response.headers_mut().remove(header::CONNECTION);
        if let Framing::Known(length) = head.framing {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let ends = self.no_body || head.framing == Framing::Bare;
        self.no_body = ends;
        let body = self.responder.send_response(response, ends).map_err(|error| send_failed(&error))?;
        self.response_body = Some(body);
        Ok(())
    }

    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Ended> {
        if self.no_body {
            return Ok(());
        }
        while !bytes.is_empty() {
            let body = self.response_body.as_mut().ok_or(Ended::BadScript)?;
            body.reserve_capacity(bytes.len());
            let room = match body.capacity() {
                0 => match poll_fn(|cx| body.poll_capacity(cx)).await {
                    Some(Ok(room)) => room,
                    Some(Err(error)) => return Err(peer_left(&error)),
                    None => return Err(self.why_closed().await),
                },
                room => room,
            };
            let piece = bytes.split_to(room.min(bytes.len()));
            if body.send_data(piece, false).is_err() {
                return Err(self.why_closed().await);
            }
        }
        Ok(())
    }

    async fn raw(&mut self, _bytes: Bytes) -> Result<(), Ended> {
        self.reset(Reason::INTERNAL_ERROR);
        Err(Ended::BadScript)
    }

    /// Does nothing: the connection writes frames on its own.
    async fn flush(&mut self) -> Result<(), Ended> {
        Ok(())
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Ended> {
        let body = self.response_body.as_mut().ok_or(Ended::BadScript)?;
        if !self.no_body {
            let ended = match trailers {
                Some(trailers) => body.send_trailers(trailers),
                None => body.send_data(Bytes::new(), true),
            };
            if ended.is_err() {
                return Err(self.why_closed().await);
            }
        }
        self.read_body(WHOLE).await
    }

    async fn peer_gone(&mut self) -> Ended {
        poll_fn(|cx| self.poll_peer_gone(cx)).await
    }

    async fn cut(&mut self, cut: Cut) -> Ended {
        // `RST_STREAM` discards data that waits to be written, so that data is written first.
        let (done, written) = oneshot::channel();
        if self.commands.send(ConnectionCommand::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
        match cut {
            Cut::Reset => self.reset(Reason::INTERNAL_ERROR),
            Cut::ChunkError => self.reset(Reason::PROTOCOL_ERROR),
            Cut::NoError => self.reset(Reason::NO_ERROR),
            Cut::Close => {
                let _ = self.commands.send(ConnectionCommand::Close).await;
                // If the stream were dropped earlier, it would be reset before the connection is closed.
                self.peer_gone().await;
            }
        }
        Ended::CutByScript(cut)
    }
}

/// How the client left, according to an error.
fn peer_left(error: &h2::Error) -> Ended {
    if error.is_reset() && error.is_remote() { Ended::PeerReset } else { Ended::PeerClosed }
}

/// Why `h2` refused to send a response: the script is wrong, or the client has left.
fn send_failed(error: &h2::Error) -> Ended {
    if error.is_io() || error.is_remote() || error.is_go_away() { peer_left(error) } else { Ended::BadScript }
}
