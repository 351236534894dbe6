//! The load client of `benches/load`: opens streams or connections, checks every answer, and prints what it saw as a line of JSON.
//!
//! A wrong answer is an error and is counted, never a fast one: status, number and order of frames, `[DONE]`, the length of a body.

#![expect(clippy::print_stdout, reason = "its output is its result")]

use std::{
    error::Error,
    io::{BufRead, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;
type Sender = http1::SendRequest<Full<Bytes>>;

#[derive(Debug, Clone, Parser)]
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
    /// Streams, or connections
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Content frames in each stream; requests on each connection
    #[arg(long, default_value_t = 1)]
    each: usize,
    /// Length that each JSON answer must have; found out by the first one if it is not told
    #[arg(long)]
    length: Option<usize>,
    /// More bytes in each request
    #[arg(long, default_value_t = 0)]
    padding: usize,
    /// The CA to trust
    #[arg(long)]
    ca: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// So many event streams at once, read to their end
    Streams,
    /// So many event streams, each held after its first frame until a line comes on stdin
    Hold,
    /// Requests, one after the other on each connection
    Requests,
    /// A new connection for each request, one after the other
    Handshakes,
}

/// What one stream, or one connection, has come to.
#[derive(Debug, Default)]
struct Seen {
    /// To the first content of a stream, or of the whole request.
    waits: Vec<Duration>,
    /// Between the frames of a stream.
    gaps: Vec<Duration>,
    frames: usize,
    /// How often there was something to read.
    reads: usize,
    bytes: usize,
    errors: Vec<String>,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(run(Arc::new(options))))
}

async fn run(options: Arc<Options>) -> Result<(), Failure> {
    let tls = options.ca.as_ref().map(trusting).transpose()?;
    let (ready, mut readied) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = tokio::sync::watch::channel(false);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..options.count)
        .map(|_| {
            let (options, tls, ready, released) =
                (options.clone(), tls.clone(), ready.clone(), released.clone());
            tokio::task::spawn_local(async move {
                let mut seen = Seen::default();
                if let Err(error) = one(&options, tls.as_ref(), &mut seen, ready, released).await {
                    seen.errors.push(error.to_string());
                }
                seen
            })
        })
        .collect();
    drop(ready);
    if options.mode == Mode::Hold {
        for _ in 0..options.count {
            readied.recv().await;
        }
        println!("held");
        std::io::stdout().flush()?;
        tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new())).await??;
        release.send(true)?;
    }
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await?;
        all.waits.extend(seen.waits);
        all.gaps.extend(seen.gaps);
        all.errors.extend(seen.errors);
        all.frames += seen.frames;
        all.reads += seen.reads;
        all.bytes += seen.bytes;
    }
    println!("{}", all.told(begun.elapsed()));
    Ok(())
}

async fn one(
    options: &Options,
    tls: Option<&TlsConnector>,
    seen: &mut Seen,
    ready: tokio::sync::mpsc::UnboundedSender<()>,
    mut released: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Failure> {
    let stream = matches!(options.mode, Mode::Streams | Mode::Hold);
    let padding = "x".repeat(options.padding);
    let body = json!({
        "model": options.model, "stream": stream, "messages": [{ "role": "user", "content": padding }]
    });
    let body = Bytes::from(body.to_string());
    if stream {
        let mut sender = connect(&options.url, tls).await?;
        let asked = Instant::now();
        let response = ask(&mut sender, options, body).await?;
        let mut frames = Frames::new(response.into_body());
        frames.read_first(asked, seen).await?;
        let _ = ready.send(());
        if options.mode == Mode::Hold {
            released.changed().await?;
            return Ok(());
        }
        return frames.read_rest(options.each, seen).await;
    }
    let mut length = options.length;
    let mut kept = None;
    for _ in 0..options.each {
        let asked = Instant::now();
        let mut sender = match kept.take().filter(|_| options.mode == Mode::Requests) {
            Some(sender) => sender,
            None => connect(&options.url, tls).await?,
        };
        let whole = ask(&mut sender, options, body.clone()).await?.into_body().collect().await?.to_bytes();
        seen.waits.push(asked.elapsed());
        seen.bytes += whole.len();
        // Ids have a number in them, which may grow by some digits.
        if whole.len().abs_diff(*length.get_or_insert(whole.len())) > 8 || !whole.ends_with(b"}") {
            return Err(format!("an answer of {} bytes", whole.len()).into());
        }
        kept = Some(sender);
    }
    Ok(())
}

async fn connect(url: &Uri, tls: Option<&TlsConnector>) -> Result<Sender, Failure> {
    let authority = url.authority().ok_or("the URL has no host")?;
    let tcp = TcpStream::connect(authority.as_str()).await?;
    tcp.set_nodelay(true)?;
    match tls {
        None => open(TokioIo::new(tcp)).await,
        Some(tls) => {
            let name = ServerName::try_from(authority.host().to_owned())?;
            open(TokioIo::new(tls.connect(name, tcp).await?)).await
        }
    }
}

async fn open<T>(io: T) -> Result<Sender, Failure>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    tokio::task::spawn_local(async move {
        // What goes wrong is told to who waits for an answer.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn ask(sender: &mut Sender, options: &Options, body: Bytes) -> Result<Response<Incoming>, Failure> {
    let host = options.url.authority().ok_or("the URL has no host")?;
    let request = Request::post(options.url.path())
        .header(header::HOST, host.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", options.key))
        .body(Full::new(body))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status()).into());
    }
    Ok(response)
}

/// The events of a stream.
struct Frames {
    body: Incoming,
    unfinished: Vec<u8>,
    content: usize,
    done: bool,
    last: Option<Instant>,
}

impl Frames {
    fn new(body: Incoming) -> Self {
        Self { body, unfinished: Vec::new(), content: 0, done: false, last: None }
    }

    async fn read_first(&mut self, asked: Instant, seen: &mut Seen) -> Result<(), Failure> {
        while self.content == 0 {
            if !self.read(seen).await? {
                return Err("a stream without content".into());
            }
        }
        seen.waits.push(asked.elapsed());
        Ok(())
    }

    async fn read_rest(&mut self, expected: usize, seen: &mut Seen) -> Result<(), Failure> {
        while self.read(seen).await? {}
        if self.content != expected || !self.done || !self.unfinished.is_empty() {
            return Err(format!("{} of {expected} frames, [DONE]: {}", self.content, self.done).into());
        }
        Ok(())
    }

    /// Reads what is there; false at the end.
    async fn read(&mut self, seen: &mut Seen) -> Result<bool, Failure> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        let Ok(data) = frame?.into_data() else { return Ok(true) };
        seen.reads += 1;
        seen.bytes += data.len();
        self.unfinished.extend_from_slice(&data);
        while let Some(end) = self.unfinished.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.unfinished.drain(..end + 2).collect();
            self.event(&event, seen)?;
        }
        Ok(true)
    }

    /// The content of the `n`th frame is its number, after a space.
    fn event(&mut self, event: &[u8], seen: &mut Seen) -> Result<(), Failure> {
        if self.done {
            return Err("something after [DONE]".into());
        }
        let Some(data) = event.strip_prefix(b"data: ") else { return Ok(()) };
        self.done = data.starts_with(b"[DONE]");
        let has = |text: &[u8]| data.windows(text.len()).any(|window| window == text);
        if self.done || !has(b"\"content\":\"") || has(b"\"role\":") {
            return Ok(());
        }
        self.content += 1;
        seen.frames += 1;
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            seen.gaps.push(now - last);
        }
        Ok(())
    }
}

impl Seen {
    fn told(&mut self, elapsed: Duration) -> serde_json::Value {
        let (waits, gaps) = (quantiles(&mut self.waits), quantiles(&mut self.gaps));
        json!({
            "seconds": elapsed.as_secs_f64(), "waits_us": waits, "gaps_us": gaps, "count": self.waits.len(), "frames": self.frames,
            "reads": self.reads, "bytes": self.bytes, "errors": self.errors.len(), "first_error": self.errors.first(),
        })
    }
}

/// The median and the 99th percentile, in microseconds.
fn quantiles(spans: &mut [Duration]) -> Option<[f64; 2]> {
    spans.sort_unstable();
    let at = |share: f64| {
        let index = (spans.len() as f64 * share) as usize;
        Some(spans.get(index.min(spans.len().checked_sub(1)?))?.as_secs_f64() * 1e6)
    };
    Some([at(0.5)?, at(0.99)?])
}

fn trusting(path: &std::path::PathBuf) -> Result<TlsConnector, Failure> {
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
