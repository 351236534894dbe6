//! A web site with the page, on as many origins as there are names below `localhost`: browsers look them up themselves.

use std::{convert::Infallible, fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/browser");

use super::chromium::Chromium;

/// A browser that starts while other tests run is slower than anything else here. Nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running web site.
pub struct Site {
    port: u16,
    reports: mpsc::UnboundedReceiver<Value>,
}

/// What it serves.
struct Content {
    /// The package `openai`.
    package: PathBuf,
    /// What the page is told.
    settings: Value,
    reports: mpsc::UnboundedSender<Value>,
}

impl Site {
    /// Binds a port, so that the origins are known.
    pub async fn bind() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Serves the page on this listener.
    pub fn serve(listener: TcpListener, package: PathBuf, settings: Value) -> Self {
        let port = listener.local_addr().unwrap().port();
        let (sender, reports) = mpsc::unbounded_channel();
        let content = Arc::new(Content { package, settings, reports: sender });
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let content = content.clone();
                let service = service_fn(move |request| answer(content.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
            }
        });
        Self { port, reports }
    }

    /// The address of the page, on the origin with this name, for what the fragment names.
    pub fn page(&self, name: &str, fragment: &str) -> String {
        format!("http://{name}.localhost:{}/#{fragment}", self.port)
    }

    /// What the page of this browser has seen.
    pub async fn report(&mut self, browser: &Chromium) -> Value {
        let reported = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        let report = reported.ok().flatten().unwrap_or_else(|| json!({ "failed": "nothing was reported" }));
        let printed = browser.printed();
        assert!(report.get("failed").is_none(), "{report:#}\nchromium has printed:\n{printed}");
        report
    }
}

async fn answer(
    content: Arc<Content>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path == "/report" {
        let report =
            request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let _ = content.reports.send(serde_json::from_slice(&report).unwrap_or_default());
        return Ok(Response::new(Full::default()));
    }
    let (kind, body) = match path.as_str() {
        "/" => ("text/html", fs::read(format!("{FOLDER}/page.html"))),
        "/page.mjs" => ("text/javascript", fs::read(format!("{FOLDER}/page.mjs"))),
        "/settings" => ("application/json", Ok(content.settings.to_string().into())),
        _ => {
            let module = path.strip_prefix("/openai/").filter(|module| !module.contains(".."));
            ("text/javascript", fs::read(content.package.join(module.unwrap_or("none"))))
        }
    };
    let mut response = Response::new(Full::default());
    match body {
        Ok(body) => *response.body_mut() = Full::from(body),
        Err(_) => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
