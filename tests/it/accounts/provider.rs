//! One account of a provider: it keeps what is made in it, and answers 404 for everything else.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// An account on a port of its own.
#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    account: Arc<Mutex<Account>>,
}

/// What an account has, and what has happened to it.
#[derive(Default)]
pub struct Account {
    name: String,
    made: usize,
    ids: BTreeSet<String>,
    /// Statuses with which the next requests that make something are refused.
    refusals: VecDeque<u16>,
    /// All requests, as `METHOD path`.
    pub requests: Vec<String>,
    /// Requests with ids that it does not know: those that read, and the others.
    pub looks: Vec<String>,
    pub strays: Vec<String>,
    /// How many refusals were used.
    pub refused: usize,
}

impl Provider {
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let account = Arc::new(Mutex::new(Account { name: name.to_owned(), ..Account::default() }));
        let kept = account.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let account = kept.clone();
                tokio::spawn(async move {
                    let serve = service_fn(|request| answer(account.clone(), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        Self { address, account }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Refuses the next request that makes something with this status.
    pub fn refuse(&self, status: u16) {
        self.state().refusals.push_back(status);
    }

    /// Refuses nothing any more.
    pub fn refuse_nothing(&self) {
        self.state().refusals.clear();
    }

    pub fn has(&self, id: &str) -> bool {
        self.state().ids.contains(id)
    }

    pub fn state(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap()
    }
}

async fn answer(
    account: Arc<Mutex<Account>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path().trim_start_matches("/v1/").to_owned();
    Ok(account.lock().unwrap().answer(&head.method, &path, &body))
}

impl Account {
    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Response<Full<Bytes>> {
        self.requests.push(format!("{method} {path}"));
        let segments: Vec<&str> = path.split('/').collect();
        let (kind, behind) = match segments[..] {
            ["messages", "batches", ref behind @ ..] => ("msgbatch_", behind),
            ["realtime", "calls", ref behind @ ..] => ("rtc_", behind),
            [collection, ref behind @ ..] => (prefix(collection), behind),
            [] => ("", &[][..]),
        };
        let mut named = ids_in(body);
        named.extend(behind.first().map(|id| (*id).to_owned()));
        if let Some(unknown) = named.iter().find(|id| !self.ids.contains(*id)) {
            let what = format!("{method} {path} {unknown}");
            let reads = *method == Method::GET || path.ends_with("/search");
            if reads {
                self.looks.push(what);
            } else {
                self.strays.push(what);
            }
            return error(404, &format!("No such object: {unknown}"));
        }
        let makes = behind.is_empty() && *method == Method::POST;
        if makes && let Some(status) = self.refusals.pop_front() {
            self.refused += 1;
            return error(status, "not now");
        }
        match (method, behind) {
            (_, [id]) if *method == Method::DELETE => {
                self.ids.remove(*id);
                document(&json!({ "id": id, "deleted": true }))
            }
            (_, [id, ..]) => self.object(kind, id),
            (_, []) if makes => self.make(kind, body),
            _ => document(&json!({ "object": "list", "data": [] })),
        }
    }

    fn new_id(&mut self, kind: &str) -> String {
        self.made += 1;
        let id = format!("{kind}{}{:08}", self.name, self.made);
        self.ids.insert(id.clone());
        id
    }

    fn make(&mut self, kind: &str, body: &Value) -> Response<Full<Bytes>> {
        let id = self.new_id(kind);
        if kind == "rtc_" {
            let mut response = Response::new(Full::from("v=0\r\n"));
            *response.status_mut() = StatusCode::CREATED;
            response.headers_mut().insert("location", format!("/v1/realtime/calls/{id}").parse().unwrap());
            return response;
        }
        if kind != "resp_" {
            return document(&json!({ "id": id, "object": "thing" }));
        }
        let sealed = self.new_id("gAAAAA_sealed_");
        let reasoning = json!({ "type": "reasoning", "id": format!("rs_{id}"), "encrypted_content": sealed, "summary": [] });
        let response = json!({ "id": id, "object": "response", "status": "completed", "model": "m",
            "output": [reasoning, { "type": "message", "id": format!("msg_{id}"), "content": [{ "type": "output_text", "text": "Hi" }] }] });
        if body["stream"] != true {
            return document(&response);
        }
        let created = json!({ "type": "response.created", "sequence_number": 0, "response": { "id": id, "status": "in_progress" } });
        let item = json!({ "type": "response.output_item.done", "sequence_number": 1, "item": reasoning });
        let delta = json!({ "type": "response.output_text.delta", "sequence_number": 2, "delta": "Hi" });
        let completed = json!({ "type": "response.completed", "sequence_number": 3, "response": response });
        let mut text = String::new();
        for event in [&created, &item, &delta, &completed] {
            text += &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        }
        let mut response = Response::new(Full::from(text));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    }

    /// An object as a later request sees it: a batch has an output by then.
    fn object(&mut self, kind: &str, id: &str) -> Response<Full<Bytes>> {
        let mut object = json!({ "id": id, "object": "thing" });
        if kind == "batch_" {
            let output = format!("file-of-{id}");
            self.ids.insert(output.clone());
            object["output_file_id"] = output.into();
        }
        document(&object)
    }
}

fn prefix(collection: &str) -> &'static str {
    match collection {
        "files" => "file-",
        "responses" => "resp_",
        "conversations" => "conv_",
        "batches" => "batch_",
        "vector_stores" => "vs_",
        _ => "",
    }
}

/// The ids that a body names.
fn ids_in(body: &Value) -> Vec<String> {
    let one = ["previous_response_id", "conversation", "input_file_id"].map(|key| &body[key]);
    let listed = body["file_ids"].as_array().into_iter().flatten();
    let sealed = body["input"].as_array().into_iter().flatten().map(|item| &item["encrypted_content"]);
    one.into_iter().chain(listed).chain(sealed).filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

fn document(value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string()));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

fn error(status: u16, message: &str) -> Response<Full<Bytes>> {
    let kind = if status == 403 { "permission_error" } else { "invalid_request_error" };
    let mut response =
        document(&json!({ "error": { "message": message, "type": kind, "param": null, "code": null } }));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
