//! An encoded slash is part of its segment: it goes upstream as it is written, and decides nothing.

use crate::harness::{BOTH, CLIENT_KEY, Gateway, GatewayToml, Http, authorised, send, simulator, whole};

#[tokio::test]
async fn an_encoded_slash_goes_upstream_as_it_is_written() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    for http in BOTH {
        for path in
            ["/v1/models/org%2Fm", "/v1/models/org%2fm?a=%2F", "/v1/models/a%2Fb%2Fc", "/v1/models/a%252Fb"]
        {
            let request = authorised(gateway.address(), http, "GET", path).body(whole("")).unwrap();
            let answer = send(gateway.address(), http, request).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let record = upstream.records().pop().unwrap();
            assert_eq!(record.target, path);
        }
    }
}

#[tokio::test]
async fn an_encoded_slash_leads_to_no_other_route_and_out_of_none() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .route("rewrite = \"/api/v1\"")
        .more("[route.admin]\npath = \"/v1/admin\"\nupstreams = [\"sim\"]\nrewrite = \"/inner\"");
    let gateway = Gateway::start(&toml);
    for (path, status, code) in [
        ("/v1%2Fmodels", 404, "route_not_found"),
        ("/v1/..%2Fadmin", 400, "invalid_path"),
        ("/v1/x%2F..%2F..", 400, "invalid_path"),
        ("/v1/x%2F%2E%2E%2F..%2Fadmin", 400, "invalid_path"),
        // Whoever decodes it sees a path of the other route.
        ("/v1/admin%2Fusers", 400, "invalid_path"),
    ] {
        for http in BOTH {
            let request = authorised(gateway.address(), http, "GET", path).body(whole("")).unwrap();
            let answer = send(gateway.address(), http, request).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (status, code),
                "{path}: {answer:?}"
            );
        }
    }
    assert!(upstream.records().is_empty());
    for (path, sent) in
        [("/v1/models/x%2Fadmin", "/api/v1/models/x%2Fadmin"), ("/v1/admin/a%2Fb", "/inner/a%2Fb")]
    {
        let request = authorised(gateway.address(), Http::One, "GET", path).body(whole("")).unwrap();
        send(gateway.address(), Http::One, request).await;
        assert_eq!(upstream.records().pop().unwrap().target, sent);
    }
    // No key hides behind one.
    let path = format!("/v1/models/org%2F{CLIENT_KEY}");
    let request = authorised(gateway.address(), Http::One, "GET", &path).body(whole("")).unwrap();
    let answer = send(gateway.address(), Http::One, request).await;
    assert_eq!((answer.status.as_u16(), upstream.records().len()), (400, 2), "{answer:?}");
    assert!(!gateway.log.text().contains(CLIENT_KEY));
}
