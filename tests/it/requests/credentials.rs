//! Of several credentials the one counts that is known, and none goes upstream.

use sluicegate::key_digest::key_digest;

use crate::harness::{Answer, BOTH, CHAT, CLIENT_KEY, Gateway, Http, Keys, request, send, simulator, whole};

const OTHER_CLIENT: &str = "sk-sg-other-client-0123456789abcdef";
const UNKNOWN: &str = "sk-proj-somebody-elses-key-0123456789";

fn second_client() -> String {
    let hash: String = key_digest(OTHER_CLIENT.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[client.other]\nkeys = [\"sha256:{hash}\"]")
}

async fn ask(gateway: &Gateway, http: Http, headers: &[(&str, &str)]) -> Answer {
    let at = gateway.address();
    let mut chat =
        request(at, http, "POST", "/v1/chat/completions").header("content-type", "application/json");
    for (name, value) in headers {
        chat = chat.header(*name, *value);
    }
    send(at, http, chat.body(whole(CHAT)).unwrap()).await
}

#[tokio::test]
async fn the_known_one_of_several_counts_and_none_goes_upstream() {
    let upstream = simulator().await;
    let more = second_client();
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: &more, ..Keys::default() });
    let (bearer, unknown) = (format!("Bearer {CLIENT_KEY}"), format!("Bearer {UNKNOWN}"));
    let in_words = format!("it is {UNKNOWN}");
    let known: [&[(&str, &str)]; 9] = [
        &[("x-goog-api-key", CLIENT_KEY)],
        &[("authorization", &bearer), ("x-api-key", UNKNOWN), ("x-note", &in_words)],
        &[("authorization", &unknown), ("x-api-key", CLIENT_KEY)],
        &[("authorization", &unknown), ("api-key", "dummy-key"), ("x-goog-api-key", CLIENT_KEY)],
        &[("authorization", ""), ("x-api-key", CLIENT_KEY)],
        &[("authorization", "Bearer "), ("api-key", CLIENT_KEY)],
        &[("authorization", &bearer), ("x-api-key", "")],
        &[("authorization", "Basic dXNlcjpwYXNzd29yZA=="), ("x-api-key", CLIENT_KEY)],
        &[("authorization", &bearer), ("x-api-key", CLIENT_KEY)],
    ];
    let refused: [(&[(&str, &str)], u16, &str); 5] = [
        (&[("authorization", &bearer), ("x-api-key", OTHER_CLIENT)], 400, "conflicting_credentials"),
        (&[("authorization", &unknown), ("x-api-key", "another")], 401, "invalid_api_key"),
        (&[("authorization", ""), ("x-api-key", "")], 401, "missing_api_key"),
        (&[("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "")], 401, "invalid_api_key"),
        (&[("x-goog-api-key", UNKNOWN)], 401, "invalid_api_key"),
    ];
    for http in BOTH {
        for headers in known {
            let answer = ask(&gateway, http, headers).await;
            assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
            let line = gateway.log.line_of(&answer).await;
            assert_eq!(line["caller"], "tester", "{headers:?}: {line:#}");
        }
        for (headers, status, code) in refused {
            let answer = ask(&gateway, http, headers).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{headers:?}");
        }
    }
    let records = upstream.records();
    assert_eq!(records.len(), 2 * known.len());
    for record in records {
        let sent = format!("{:?}", record.headers);
        for secret in [CLIENT_KEY, OTHER_CLIENT, UNKNOWN, "dummy-key", "dXNlcjpwYXNzd29yZA"] {
            assert!(!sent.contains(secret), "{sent}");
        }
    }
    let log = gateway.log.text();
    assert!([CLIENT_KEY, OTHER_CLIENT, UNKNOWN].iter().all(|key| !log.contains(key)));
    gateway.finish(2 * (known.len() + refused.len())).await;
}
