//! The load client of `benches/load` and `benches/soak`: keeps so many streams or connections busy, checks every answer, and says what
//! it saw.
//!
//! A wrong answer is an error and is counted, never a fast one: status, every word of every frame in its order, `[DONE]`, the
//! text of a whole answer. It prints a line of JSON when all have begun, one for each line that it reads (what happened since
//! the line before), and ends with its stdin.

#![expect(clippy::print_stdout, reason = "its output is its result")]

use std::{
    cell::{Cell, RefCell},
    error::Error,
    io::{BufRead, Write},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;
type Sender = http1::SendRequest<Full<Bytes>>;

/// What the simulator says, frame by frame. Written down here once more, because a client that asked it would check nothing.
const WORDS: &[&str] = &[
    "The", " sluice", " opens", ",", " and", " the", " words", " flow", " through", " one", " by", " one",
    " —", " nothing", " held", " back", ",", " nothing", " lost", ".",
];

/// Connections that are being opened at once, so that a thousand handshakes do not time out one another.
const OPENING: usize = 64;

#[derive(Debug, Parser)]
struct Options {
    mode: Mode,
    /// Where to, with its path
    #[arg(long)]
    url: Uri,
    /// The caller's key
    #[arg(long)]
    key: String,
    /// What the upstream is asked for, in the simulator's words
    #[arg(long)]
    model: String,
    /// Content frames that each answer must have
    #[arg(long, default_value_t = 20)]
    frames: usize,
    /// Streams or connections
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// More bytes in each request
    #[arg(long, default_value_t = 0)]
    padding: usize,
    /// Ask for the usage event of a stream
    #[arg(long)]
    usage: bool,
    /// PEM file of the CA to trust; without it, no TLS
    #[arg(long)]
    ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// So many event streams at once; where one ends, the next begins
    Streams,
    /// Requests, one after the other on each connection
    Requests,
    /// A new connection for each request
    Handshakes,
}

/// What was seen since the line before.
#[derive(Debug)]
struct Seen {
    since: Instant,
    /// To the first content of a stream, or for the whole of another request, in microseconds.
    waits: Vec<u32>,
    /// From the making of a frame to its arrival, where frames say when they were made.
    delays: Vec<u32>,
    frames: usize,
    bytes: usize,
    errors: Vec<String>,
}

/// What all tasks share.
struct Load {
    options: Options,
    tls: Option<TlsConnector>,
    body: Bytes,
    text: String,
    opening: Semaphore,
    seen: RefCell<Seen>,
    /// How often a socket had something to read.
    reads: Rc<Cell<usize>>,
    begun: mpsc::UnboundedSender<()>,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(run(options)))
}

async fn run(options: Options) -> Result<(), Failure> {
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let load = Rc::new(Load::new(options, begun)?);
    for _ in 0..load.options.count {
        let load = load.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = load.one().await {
                load.seen.borrow_mut().errors.push(error.to_string());
                // Who waits for all to begin must not wait for this one.
                let _ = load.begun.send(());
            }
        });
    }
    for _ in 0..load.options.count {
        beginnings.recv().await;
    }
    say(&load.told())?;
    let mut lines = lines();
    while lines.recv().await.is_some() {
        say(&load.told())?;
    }
    Ok(())
}

/// Lines of stdin, read by a thread that may be left waiting for one.
fn lines() -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn say(line: &Value) -> std::io::Result<()> {
    println!("{line}");
    std::io::stdout().flush()
}

impl Load {
    fn new(options: Options, begun: mpsc::UnboundedSender<()>) -> Result<Self, Failure> {
        let stream = options.mode == Mode::Streams;
        // The model comes first, because the simulator keeps no more than the beginning of a long request.
        let model = Value::from(options.model.as_str());
        let usage = if options.usage { r#""stream_options":{"include_usage":true},"# } else { "" };
        let words = "x".repeat(options.padding);
        let body = format!(
            r#"{{"model":{model},"stream":{stream},{usage}"messages":[{{"role":"user","content":"{words}"}}]}}"#
        );
        // An answer that has no end has no text either, that anybody could wait for.
        let spoken: String =
            WORDS.iter().cycle().take(if stream { 0 } else { options.frames }).copied().collect();
        Ok(Self {
            tls: options.ca.as_deref().map(trusting).transpose()?,
            body: Bytes::from(body),
            text: format!(r#""content":"{spoken}""#),
            opening: Semaphore::new(OPENING),
            seen: RefCell::new(Seen::new()),
            reads: Rc::default(),
            begun,
            options,
        })
    }

    /// Asks for one answer after the other, until something is wrong with one.
    async fn one(&self) -> Result<(), Failure> {
        let mut kept = None;
        let mut first = true;
        loop {
            let permit = self.opening.acquire().await?;
            let asked = Instant::now();
            let mut sender = match kept.take().filter(|_| self.options.mode != Mode::Handshakes) {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let body = self.ask(&mut sender).await?.into_body();
            if self.options.mode == Mode::Streams {
                let mut frames = Frames::new(self, body);
                frames.read_first(asked).await?;
                drop(permit);
                self.begin(&mut first);
                frames.read_rest().await?;
            } else {
                self.whole(body, asked).await?;
                drop(permit);
                self.begin(&mut first);
            }
            kept = Some(sender);
        }
    }

    fn begin(&self, first: &mut bool) {
        if std::mem::take(first) {
            let _ = self.begun.send(());
        }
    }

    async fn whole(&self, body: Incoming, asked: Instant) -> Result<(), Failure> {
        let whole = body.collect().await?.to_bytes();
        if memmem::find(&whole, self.text.as_bytes()).is_none() || !whole.ends_with(b"}") {
            return Err(format!("not the answer that was asked for, {} bytes", whole.len()).into());
        }
        let mut seen = self.seen.borrow_mut();
        seen.waits.push(micros(asked.elapsed()));
        seen.bytes += whole.len();
        Ok(())
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let authority = self.options.url.authority().ok_or("the URL has no host")?;
        let tcp = TcpStream::connect(authority.as_str()).await?;
        tcp.set_nodelay(true)?;
        let tcp = Counted { tcp, reads: self.reads.clone() };
        match &self.tls {
            None => open(TokioIo::new(tcp)).await,
            Some(tls) => {
                let name = ServerName::try_from(authority.host().to_owned())?;
                open(TokioIo::new(tls.connect(name, tcp).await?)).await
            }
        }
    }

    async fn ask(&self, sender: &mut Sender) -> Result<Response<Incoming>, Failure> {
        let host = self.options.url.authority().ok_or("the URL has no host")?;
        let request = Request::post(self.options.url.path())
            .header(header::HOST, host.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.options.key))
            .body(Full::new(self.body.clone()))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if response.status() != 200 {
            return Err(format!("status {}", response.status()).into());
        }
        Ok(response)
    }

    /// What was seen since this was last asked.
    fn told(&self) -> Value {
        let mut seen = self.seen.replace(Seen::new());
        let waits = quantiles(&mut seen.waits);
        json!({
            "seconds": seen.since.elapsed().as_secs_f64(),
            "answers": seen.waits.len(), "wait_us": waits,
            "frames": seen.frames, "delay_us": quantiles(&mut seen.delays),
            "reads": self.reads.take(), "bytes": seen.bytes,
            "errors": seen.errors.len(), "first_error": seen.errors.first(),
        })
    }
}

async fn open<T>(io: T) -> Result<Sender, Failure>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    tokio::task::spawn_local(async move {
        // Errors go to the caller that waits for an answer.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The events of a stream.
struct Frames<'a> {
    load: &'a Load,
    body: Incoming,
    unfinished: BytesMut,
    content: usize,
    done: bool,
}

impl<'a> Frames<'a> {
    fn new(load: &'a Load, body: Incoming) -> Self {
        Self { load, body, unfinished: BytesMut::new(), content: 0, done: false }
    }

    async fn read_first(&mut self, asked: Instant) -> Result<(), Failure> {
        while self.content == 0 {
            if !self.read().await? {
                return Err("a stream without content".into());
            }
        }
        self.load.seen.borrow_mut().waits.push(micros(asked.elapsed()));
        Ok(())
    }

    async fn read_rest(&mut self) -> Result<(), Failure> {
        while self.read().await? {}
        let expected = self.load.options.frames;
        if self.content != expected || !self.done || !self.unfinished.is_empty() {
            return Err(format!("{} of {expected} frames, [DONE]: {}", self.content, self.done).into());
        }
        Ok(())
    }

    /// Reads what is there; false at the end.
    async fn read(&mut self) -> Result<bool, Failure> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        let Ok(data) = frame?.into_data() else { return Ok(true) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.load.seen.borrow_mut().bytes += data.len();
        self.unfinished.extend_from_slice(&data);
        while let Some(end) = memmem::find(&self.unfinished, b"\n\n") {
            let event = self.unfinished.split_to(end);
            self.unfinished.advance(2);
            self.event(&event, now)?;
        }
        Ok(true)
    }

    fn event(&mut self, event: &[u8], now: Duration) -> Result<(), Failure> {
        if self.done {
            return Err("something after [DONE]".into());
        }
        let data = event.strip_prefix(b"data: ").ok_or("a line that is not an event's data")?;
        self.done = data == b"[DONE]";
        let Some(word) = after(data, br#""content":""#) else { return Ok(()) };
        // The role comes with an empty text.
        if word.starts_with(b"\"") {
            return Ok(());
        }
        let expected = WORDS.get(self.content % WORDS.len()).copied().unwrap_or_default();
        if !word.strip_prefix(expected.as_bytes()).is_some_and(|rest| rest.starts_with(b"\""))
            || !data.ends_with(b"}")
        {
            return Err(format!("frame {} is not `{expected}`", self.content).into());
        }
        self.content += 1;
        let mut seen = self.load.seen.borrow_mut();
        seen.frames += 1;
        if let Some(made) = after(data, br#""made_ns":"#).and_then(number) {
            seen.delays.push(micros(now.saturating_sub(Duration::from_nanos(made))));
        }
        Ok(())
    }
}

fn after<'a>(data: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    data.get(memmem::find(data, mark)? + mark.len()..)
}

fn number(data: &[u8]) -> Option<u64> {
    let end = data.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(data.get(..end)?).ok()?.parse().ok()
}

impl Seen {
    fn new() -> Self {
        let (waits, delays, errors) = (Vec::new(), Vec::new(), Vec::new());
        Self { since: Instant::now(), waits, delays, frames: 0, bytes: 0, errors }
    }
}

/// The median and the 99th percentile.
fn quantiles(values: &mut [u32]) -> Option<[u32; 2]> {
    values.sort_unstable();
    let at = |hundredth: usize| {
        values.get((values.len() * hundredth / 100).min(values.len().checked_sub(1)?)).copied()
    };
    Some([at(50)?, at(99)?])
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// A socket whose reads are counted, so that it is seen how many frames one of them brought.
struct Counted {
    tcp: TcpStream,
    reads: Rc<Cell<usize>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if polled.is_ready() {
            self.reads.set(self.reads.get() + 1);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

fn trusting(path: &Path) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each connection makes a handshake of its own.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}
