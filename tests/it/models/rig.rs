//! A gateway before three upstreams, `main`, `spare` and `third`, of which the route lists the first two.

use http::{Method, Request};
use serde_json::Value;
use sluicegate::simulator::{Record, Simulator};

use crate::harness::{
    Answer, BOTH, Gateway, GatewayToml, Http, Sent, authorised, post, send, simulator, whole,
};

/// The gateway and its upstreams.
pub struct Rig {
    pub main: Simulator,
    pub spare: Simulator,
    pub third: Simulator,
    pub gateway: Gateway,
}

/// A request as an upstream got it.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The name of the upstream.
    pub upstream: &'static str,
    /// The model in its JSON body; empty if there is none.
    pub model: String,
}

impl Rig {
    /// `route` are lines of the route's table, `client` of the client's, and `models` the tables of models.
    pub async fn new(route: &str, client: &str, models: &str) -> Self {
        let (main, spare, third) = (simulator().await, simulator().await, simulator().await);
        let toml = toml([&main, &spare, &third], route, models).client(client);
        let gateway = Gateway::start(&toml);
        Self { main, spare, third, gateway }
    }

    /// The same file with other lines, and a client that may do anything.
    pub fn toml(&self, route: &str, models: &str) -> GatewayToml {
        toml([&self.main, &self.spare, &self.third], route, models)
    }

    /// A chat request that names this model, by either protocol in turn.
    pub async fn chat(&self, model: &str) -> Answer {
        self.post("/v1/chat/completions", &format!(r#"{{"model":"{model}","messages":[]}}"#)).await
    }

    /// A JSON request.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(post(self.gateway.address(), self.http(), path).body(whole(body.to_owned())).unwrap()).await
    }

    /// A request without a body.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(&Method::GET, path, headers).await
    }

    /// A request of this method without a body.
    pub async fn ask(&self, method: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = authorised(self.gateway.address(), self.http(), method.as_str(), path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(whole("")).unwrap()).await
    }

    pub async fn send(&self, request: Request<Sent>) -> Answer {
        let http = if request.uri().authority().is_some() { Http::Two } else { Http::One };
        send(self.gateway.address(), http, request).await
    }

    /// The protocol whose turn it is.
    pub fn http(&self) -> Http {
        BOTH[self.gateway.log.access().len() % 2]
    }

    /// What the upstreams got since this was last asked.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let records = self.records().into_iter();
        records.map(|(upstream, record)| Arrival { upstream, model: model(&record) }).collect()
    }

    /// The same, as they were recorded.
    pub fn records(&self) -> Vec<(&'static str, Record)> {
        let all = [("main", &self.main), ("spare", &self.spare), ("third", &self.third)];
        let mut found = Vec::new();
        for (name, upstream) in all {
            found.extend(upstream.records().into_iter().map(|record| (name, record)));
            upstream.reset();
        }
        found
    }

    /// What the one upstream got that was asked.
    pub fn arrival(&self) -> Arrival {
        let mut arrivals = self.arrivals();
        assert_eq!(arrivals.len(), 1, "{arrivals:?}");
        arrivals.remove(0)
    }
}

fn toml([main, spare, third]: [&Simulator; 3], route: &str, models: &str) -> GatewayToml {
    GatewayToml::new()
        .listener("h2c = true")
        .defaults("retry = { retries = 3, backoff = \"10ms\", max_backoff = \"20ms\" }\nbreaker = \"off\"")
        .upstream("main", &main.url(), "")
        .upstream("spare", &spare.url(), "")
        .upstream("third", &third.url(), "")
        .route_to(format!("upstreams = [\"main\", \"spare\"]\n{route}"))
        .more(models)
}

/// At this upstream, for this model.
pub fn at(upstream: &'static str, model: &str) -> Arrival {
    Arrival { upstream, model: model.to_owned() }
}

fn model(record: &Record) -> String {
    let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
    body["model"].as_str().unwrap_or_default().to_owned()
}
