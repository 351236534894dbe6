//! The gateway.toml of the environment: a route for each fault, and something of everything that dashboards show.

use std::fmt::Write as _;

/// What the file is about.
pub struct Addresses<'a> {
    pub main: &'a str,
    pub spare: &'a str,
    pub flaky: &'a str,
    pub pool: &'a str,
    pub redis: &'a str,
    pub collector: &'a str,
    /// The line of a TLS listener.
    pub tls: &'a str,
    /// The hash of the second client's key.
    pub batch: &'a str,
}

/// The file.
pub fn toml(addresses: &Addresses<'_>) -> String {
    let mut toml = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.2:0\"\n{}\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [server]\nthreads = 2\n[client.tester]\nkey = \"$CLIENT_HASH\"\n[client.batch]\nkey = \"{}\"\n\
         [redis]\nurl = \"{}\"\n[otlp]\nendpoint = \"{}\"\n[defaults]\nlimits = [\"fair-use\", \"budget\"]\n",
        addresses.tls, addresses.batch, addresses.redis, addresses.collector
    );
    toml += LIMITS;
    toml += PRICES;
    upstreams(&mut toml, addresses);
    routes(&mut toml);
    toml
}

const LIMITS: &str = r#"
[limit.fair-use]
each = "client"
requests = 1_000_000
per = "1m"
[limit.budget]
each = "client"
cost = "100"
per = "month"
[limit.tight]
each = "route"
requests = 6
per = "1m"
burst = { requests = 1 }
[limit.trial]
each = "route"
requests = 6
per = "1m"
burst = { requests = 1 }
enforce = false
[limit.narrow]
each = "gateway"
concurrent = 1
queue = { size = 10, wait = "300ms" }
"#;

const PRICES: &str = r#"
[pricing]
currency = "USD"
[pricing.model."model-a"]
input = "2.50"
output = "10"
[pricing.model."slow-model"]
input = "15"
output = "60"
[pricing.model."many-*"]
input = "0.10"
output = "0.40"
"#;

fn upstreams(toml: &mut String, addresses: &Addresses<'_>) {
    let one = "keys = [{ env = \"UPSTREAM_KEY\" }]\nmax_pending = 100\nmax_connections = 100\nretry = { backoff = \"5ms\" }";
    let two =
        "keys = [{ env = \"UPSTREAM_KEY\" }, { env = \"UPSTREAM_KEY_2\" }]\nretry = { backoff = \"5ms\" }";
    let wrong = "keys = [{ env = \"UPSTREAM_KEY_2\" }]";
    for (name, url, lines) in [
        ("main", addresses.main, format!("{one}\nbreaker = \"off\"")),
        ("spare", addresses.spare, one.to_owned()),
        ("flaky", addresses.flaky, format!("{one}\nbreaker = \"off\"")),
        ("pool", addresses.pool, two.to_owned()),
        ("refused", addresses.spare, wrong.to_owned()),
        ("single", addresses.spare, "keys = [{ env = \"UPSTREAM_KEY\" }]\nmax_pending = 1".to_owned()),
        ("dead", "http://127.0.0.1:9", "auth = \"none\"\nretry = { backoff = \"5ms\" }".to_owned()),
    ] {
        let _ = writeln!(toml, "[upstream.{name}]\nurl = \"{url}\"\n{lines}");
    }
}

fn routes(toml: &mut String) {
    for (path, upstreams, lines) in [
        ("v1", "\"main\", \"spare\"", ""),
        ("spare", "\"spare\"", ""),
        ("flaky", "\"flaky\", \"spare\"", ""),
        ("pool", "\"pool\"", ""),
        ("refused", "\"refused\"", ""),
        ("dead", "\"dead\"", ""),
        ("tight", "\"spare\"", "limits = [\"tight\"]"),
        ("trial", "\"spare\"", "limits = [\"trial\"]"),
        ("narrow", "\"spare\"", "limits = [\"narrow\"]"),
        ("single", "\"single\"", ""),
    ] {
        let _ = writeln!(
            toml,
            "[route.{path}]\npath = \"/{path}\"\nrewrite = \"/v1\"\nupstreams = [{upstreams}]\n{lines}"
        );
    }
}
