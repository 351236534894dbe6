//! A viewer of the live page's events that is no browser.

use std::net::SocketAddr;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::harness::{Client, Http, request, safely, whole};

/// A viewer, with the state as it knows it.
pub struct Viewer {
    _client: Client,
    response: Response<Incoming>,
    unread: String,
    pub state: Value,
    pub configuration: Value,
    pub finished: Vec<Value>,
    pub log: Vec<String>,
    /// Bytes of all messages, and their number.
    pub bytes: usize,
    pub messages: usize,
}

impl Viewer {
    /// Begins to look at the gateway with this admin listener.
    pub async fn join(admin: SocketAddr) -> Self {
        Self::with_token(admin, None).await
    }

    pub async fn with_token(admin: SocketAddr, token: Option<&str>) -> Self {
        Self::of(admin, token, "/live/events").await
    }

    /// One that asks at this path.
    pub async fn of(admin: SocketAddr, token: Option<&str>, path: &str) -> Self {
        let mut client = Client::connect(admin, Http::One).await;
        let mut asked = request(admin, Http::One, "GET", path);
        if let Some(token) = token {
            asked = asked.header("authorization", format!("Bearer {token}"));
        }
        let response = safely(client.send(asked.body(whole("")).unwrap())).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            _client: client,
            response,
            unread: String::new(),
            state: Value::Null,
            configuration: Value::Null,
            finished: Vec::new(),
            log: Vec::new(),
            bytes: 0,
            messages: 0,
        }
    }

    /// Takes messages until the gateway ends the stream.
    pub async fn ended(&mut self) {
        let ended = async {
            while let Some(frame) = self.response.body_mut().frame().await {
                frame.unwrap();
            }
        };
        safely(ended).await;
    }

    /// Takes messages until `look` finds something in what is known then.
    pub async fn until<T>(&mut self, look: impl Fn(&Self) -> Option<T>) -> T {
        safely(async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                let frame = self.response.body_mut().frame().await.expect("the stream goes on").unwrap();
                self.unread += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
                while let Some((message, rest)) = self.unread.split_once("\n\n") {
                    let (message, rest) = (message.to_owned(), rest.to_owned());
                    self.unread = rest;
                    self.take(&message);
                }
            }
        })
        .await
    }

    /// The open request whose row `fits`, with its id.
    pub async fn request(&mut self, fits: impl Fn(&Value) -> bool) -> (String, Value) {
        self.until(|viewer| {
            let rows = viewer.state["streams"].as_object()?;
            rows.iter().find(|(_, row)| fits(row)).map(|(id, row)| (id.clone(), row.clone()))
        })
        .await
    }

    fn take(&mut self, message: &str) {
        self.bytes += message.len() + 2;
        self.messages += 1;
        let (event, data) = message.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        match event {
            "event: state" => self.state = data["state"].clone(),
            "event: delta" => merge(&mut self.state, &data["patch"]),
            "event: configuration" => self.configuration = data,
            "event: finished" => self.finished.extend(data.as_array().unwrap().iter().cloned()),
            "event: log" => {
                self.log
                    .extend(data.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()));
            }
            other => panic!("unknown: {other}"),
        }
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let own = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            own.remove(name);
        } else {
            merge(own.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
