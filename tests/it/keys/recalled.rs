//! A connection's requests are each by whoever they say, whoever sent the one before.

use sluicegate::{config::KeyHash, simulator::Simulator};

use crate::harness::{BOTH, Client, Gateway, GatewayToml, Http, request, simulator, whole};

const ANNA: &str = "sk-sg-anna-0123456789abcdefABCDEF";
const BERT: &str = "sk-sg-bert-0123456789abcdefABCDEF";

fn toml(upstream: &Simulator, clients: &[(&str, &str)]) -> GatewayToml {
    let plain = GatewayToml::before(&upstream.url(), "").listener("h2c = true").server("threads = 1");
    clients.iter().fold(plain.without_client(), |toml, (name, key)| {
        let hash = KeyHash::of(key.as_bytes());
        toml.more(format!("[client.{name}]\nkey = \"{hash}\""))
    })
}

/// One connection, and what is asked on it.
struct Caller<'g> {
    gateway: &'g Gateway,
    upstream: &'g Simulator,
    client: Client,
    http: Http,
}

impl Caller<'_> {
    /// Asks with `key` in its header and in another one, where it must not cross, and tells whom the log calls the caller; or the error.
    async fn by(&mut self, key: &str) -> String {
        // Without a body, so that the connection goes on after a refusal.
        let request = request(self.gateway.address(), self.http, "GET", "/v1/models")
            .header("authorization", format!("Bearer {key}"))
            .header("x-note", key)
            .body(whole(""));
        let answer = self.client.ask(request.unwrap()).await;
        if answer.status != 200 {
            return answer.code();
        }
        let record = self.upstream.records().pop().unwrap();
        assert!(!record.headers.contains_key("x-note"), "{key}: {record:?}");
        self.gateway.log.line_of(&answer).await["caller"].as_str().unwrap().to_owned()
    }

    /// The path that is logged of a request that has its key in there as well.
    async fn path_with(&mut self, key: &str) -> String {
        let request = request(self.gateway.address(), self.http, "GET", &format!("/v1/files/{key}"))
            .header("authorization", format!("Bearer {key}"))
            .body(whole(""));
        let answer = self.client.ask(request.unwrap()).await;
        assert_eq!(answer.status, 400);
        self.gateway.log.line_of(&answer).await["path"].as_str().unwrap().to_owned()
    }

    async fn in_query(&mut self, key: &str) -> String {
        let path = format!("/v1/models?key={key}");
        let request = request(self.gateway.address(), self.http, "GET", &path).body(whole(""));
        self.client.ask(request.unwrap()).await.code()
    }
}

#[tokio::test]
async fn each_request_is_by_whose_key_it_presents() {
    let upstream = simulator().await;
    for http in BOTH {
        let gateway = Gateway::start(&toml(&upstream, &[("anna", ANNA), ("bert", BERT)]));
        let client = Client::connect(gateway.address(), http).await;
        let mut caller = Caller { gateway: &gateway, upstream: &upstream, client, http };
        for (key, by) in [
            (ANNA, "anna"),
            (ANNA, "anna"),
            (BERT, "bert"),
            (BERT, "bert"),
            (ANNA, "anna"),
            ("sk-sg-anna-0123456789abcdefABCDEf", "invalid_api_key"),
            ("sk-sg-anna", "invalid_api_key"),
            (ANNA, "anna"),
        ] {
            assert_eq!(caller.by(key).await, by, "{key} over {http:?}");
        }
        // In the query it proves nothing, also right after it proved something in a header.
        assert_eq!(caller.in_query(ANNA).await, "missing_api_key", "over {http:?}");
        assert_eq!(caller.by(ANNA).await, "anna");

        for key in [BERT, ANNA] {
            assert_eq!(caller.path_with(key).await, "[withheld: holds the key]");
        }

        // What was known of it is known no more.
        gateway.reload(&toml(&upstream, &[("bert", BERT)])).await;
        assert_eq!(caller.by(ANNA).await, "invalid_api_key", "withdrawn, over {http:?}");
        assert_eq!(caller.by(BERT).await, "bert");
        gateway.reload(&toml(&upstream, &[("other", BERT)])).await;
        assert_eq!(caller.by(BERT).await, "other", "over {http:?}");
    }
}
