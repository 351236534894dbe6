//! The live page in Chromium. The pictures are in `target/tmp/live`, for people to look at.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use sluicegate::{
    config::{KeyHash, Problem, Problems},
    simulator::{Gate, Head, Script, Simulator, Step},
};
use tokio::task::JoinSet;

use super::see::{Page, Plan};
use crate::harness::{
    Answer, CLIENT_KEY, Client, Gateway, GatewayToml, Http, UPSTREAM_KEY, chat, post, request, safely, send,
    simulator, whole,
};

/// Keys of further clients.
const OTHER_CLIENTS: [(&str, &str); 2] = [
    ("team-search", "sk-sg-team-search-0123456789abcdef"),
    ("nightly-evaluation", "sk-sg-nightly-0123456789abcdef"),
];

const ERROR: &str = r#"{"error":{"message":"overloaded","type":"server_error","code":"overloaded"}}"#;

/// A gateway with two upstreams and three clients, whose actions are on.
fn toml(first: &str, second: &str) -> GatewayToml {
    let mut more =
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = { env = \"UPSTREAM_KEY\" }\nactions = true\n".to_owned();
    for (name, key) in OTHER_CLIENTS {
        more += &format!("[client.{name}]\nkey = \"{}\"\n", KeyHash::of(key.as_bytes()));
    }
    let keys = "keys = [{ env = \"UPSTREAM_KEY\" }, { env = \"UPSTREAM_KEY_2\" }]";
    GatewayToml::new()
        .listener("h2c = true")
        .server("http2_max_streams = 600\nthreads = 2")
        .defaults("retry = { backoff = \"20ms\" }")
        .upstream("openai", first, "")
        .upstream_of("azure-eu", format!("url = \"{second}\"\n{keys}"))
        .more(more)
}

/// Begins to look, as an operator who has typed the token.
fn look(gateway: &Gateway, fragment: &str) -> Plan {
    let token = json!(UPSTREAM_KEY);
    Plan::of(gateway.admin.unwrap(), fragment)
        .wait("document.querySelector('#login')?.hidden === false")
        .run(&format!("document.querySelector('#token').value = {token}"))
        .run("document.querySelector('#login').requestSubmit()")
        .begun()
}

/// The page found nothing wrong, asked nobody else, and put the token into no address.
fn is_clean(page: &Page, gateway: &Gateway) {
    let own = format!("http://{}/", gateway.admin.unwrap());
    // The browser reports the response that asks for the token.
    let is_usual = |problem: &str| ["401", "favicon"].iter().any(|part| problem.contains(part));
    let others = page.problems.iter().filter(|problem| !is_usual(problem));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
    for asked in &page.requests {
        let url = asked.split_once(' ').unwrap().1;
        assert!(url.starts_with(&own), "{asked}");
        assert!(!url.contains(UPSTREAM_KEY), "{asked}");
    }
}

async fn ask(
    client: &mut Client,
    http: Http,
    key: &str,
    model: &str,
    simulate: &str,
) -> crate::harness::Pending {
    let body = json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "Hi" }] });
    let asked = request("127.0.0.1:1".parse().unwrap(), http, "POST", "/v1/chat/completions")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .header("x-simulate", simulate)
        .body(whole(body.to_string()))
        .unwrap();
    client.begin(asked).await
}

#[tokio::test]
async fn idle() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&toml(&upstream.url(), &upstream.url()));
    let page = look(&gateway, "")
        .pictures("idle")
        .run("document.querySelector('.empty:not([hidden])').textContent")
        .run("document.querySelector('#notices').textContent")
        .key("3")
        .run("document.querySelectorAll('.card').length")
        .see()
        .await;
    is_clean(&page, &gateway);
    let texts = [json!("no request in flight"), json!("nothing is wrong that this page knows of"), json!(2)];
    assert_eq!(page.values[2..], texts);
}

#[tokio::test]
async fn five_hundred_streams() {
    const STREAMS: usize = 500;
    let upstream = simulator().await;
    let gateway = Gateway::start(&toml(&upstream.url(), &upstream.url()));
    let mut client = Client::connect(gateway.address(), Http::Two).await;
    let mut open = JoinSet::new();
    for number in 0..STREAMS {
        let key = [CLIENT_KEY, OTHER_CLIENTS[0].1, OTHER_CLIENTS[1].1][number % 3];
        let model = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "o4-mini-2025-04-16"][number % 4];
        let simulate = match number % 50 {
            7 => "frames=100; stall=400",
            11 => "delay=600s",
            _ => "frames=100000; interval=1500",
        };
        let pending = ask(&mut client, Http::Two, key, model, simulate).await;
        open.spawn(async move {
            let answer = Answer::read(pending.await.unwrap()).await;
            drop(answer);
        });
    }
    safely(async {
        while gateway.loads().iter().map(|(exchanges, _)| exchanges).sum::<usize>() < STREAMS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let rows = "document.querySelectorAll('main section:not([hidden]) tbody tr').length";
    let page = look(&gateway, "")
        .wait(&format!("{rows} === {STREAMS}"))
        .wait("[...document.querySelectorAll('dd')].some((one) => Number.parseFloat(one.textContent) > 100)")
        .pictures("streams")
        .run("document.querySelector('tbody tr').click()")
        .wait("!document.querySelector('#detail').hidden")
        .pictures("one-stream")
        .run("document.querySelector('#detail').innerText")
        .key("Escape")
        .run("document.querySelector('#detail').hidden")
        .key("4")
        .pictures("clients")
        .run("document.querySelector('main section:not([hidden]) tbody').innerText")
        .key("1")
        .run("{ const input = document.querySelector('input[type=search]'); input.value = 'team-search o4'; input.dispatchEvent(new Event('input')); }")
        .wait(&format!("{rows} < 60 && {rows} > 20"))
        .see()
        .await;
    is_clean(&page, &gateway);
    let (detail, closed, clients) = (&page.values[3], &page.values[4], &page.values[5]);
    for part in ["cancel the request", "openai", "first token", "in the gateway"] {
        assert!(detail.as_str().unwrap().contains(part), "{detail}");
    }
    assert_eq!(closed, true);
    for (name, _) in OTHER_CLIENTS {
        assert!(clients.as_str().unwrap().contains(name), "{clients}");
    }
    open.abort_all();
}

/// Limits of all kinds with real use, a queue in which requests wait, a group, prices, and names that would do something as markup.
#[tokio::test]
async fn limits_queues_groups_and_costs() {
    const MODEL: &str = "<img src=x onerror=window.hit=1>";
    let upstream = simulator().await;
    let config = toml(&upstream.url(), &upstream.url())
        .defaults("limits = [\"fair-use\", \"in-line\", \"by-model\", \"seen-only\", \"budget\"]")
        .client("group = \"research\"")
        .more("[group.research]\nlimits = [\"research-month\"]")
        .more("[limit.fair-use]\nrequests = 10\ntokens = 100_000\nper = \"1h\"\nburst = { requests = 10, tokens = 100_000 }")
        .more("[limit.research-month]\neach = \"group\"\ntokens = 5_000_000\nper = \"month\"\ntimezone = \"Europe/Berlin\"")
        .more("[limit.in-line]\neach = \"gateway\"\nconcurrent = 2\nqueue = { size = 5, wait = \"10m\" }")
        .more("[limit.by-model]\neach = \"model\"\nmodels = [\"gpt-4o*\"]\nrequests = 100\nper = \"1h\"")
        .more("[limit.seen-only]\nrequests = 2\nper = \"1h\"\nburst = { requests = 2 }\nenforce = false")
        .more("[limit.budget]\ncost = \"500\"\nper = \"month\"")
        .more("[pricing]\ncurrency = \"EUR\"\n[pricing.model.\"gpt-4o*\"]\ninput = \"2.50\"\noutput = \"10.00\"");
    let gateway = Gateway::start(&config);
    for _ in 0..3 {
        assert!(chat(gateway.address(), Http::One).await.whole);
    }
    let mut client = Client::connect(gateway.address(), Http::Two).await;
    let hostile = ask(&mut client, Http::Two, OTHER_CLIENTS[0].1, MODEL, "frames=3").await;
    assert!(Answer::read(safely(hostile).await.unwrap()).await.whole);
    // Two are served, and three wait.
    let mut open = Vec::new();
    for number in 0..5 {
        let key = [CLIENT_KEY, OTHER_CLIENTS[0].1, OTHER_CLIENTS[1].1][number % 3];
        open.push(ask(&mut client, Http::Two, key, "gpt-4o", "frames=100; stall=400").await);
    }
    let page = look(&gateway, "clients")
        .wait("document.body.innerText.includes('fair-use') && document.body.innerText.includes('research-month')")
        .wait("[...document.querySelectorAll('tbody tr')].some((row) => row.cells[0].textContent === 'in-line' && row.cells[1].textContent === '3')")
        .pictures("limits")
        .run("document.querySelector('main section:not([hidden])').innerText")
        .run("scrollTo(0, document.body.scrollHeight)")
        .pictures("limits-below")
        .run("[window.hit, document.querySelectorAll('main img').length]")
        .see()
        .await;
    is_clean(&page, &gateway);
    let text = page.values[2].as_str().unwrap();
    for part in [
        "fair-use",
        "seen-only (only counts)",
        "group research",
        "in-line",
        MODEL,
        "EUR",
        "concurrent",
        "nightly-evaluation",
        "of 500 EUR",
        "tokens per month",
        "of 5,000,000",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(page.values.last(), Some(&json!([Value::Null, 0])));
    drop(open);
}

/// An upstream whose target refuses connections, and one whose first key has no credit.
#[tokio::test]
async fn a_broken_provider() {
    let second = simulator().await;
    let gateway = Gateway::start(&toml("http://127.0.0.1:1", &second.url()));
    let refused = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    for number in 0..8 {
        if number == 0 {
            let head = Head::json(StatusCode::TOO_MANY_REQUESTS, refused.len());
            second.queue(Script::new(vec![Step::Head(head), Step::Send(refused.into())]));
        }
        if number == 5 {
            let head = Head::json(StatusCode::INTERNAL_SERVER_ERROR, ERROR.len());
            (0..8).for_each(|_| {
                second.queue(Script::new(vec![Step::Head(head.clone()), Step::Send(ERROR.into())]));
            });
        }
        chat(gateway.address(), Http::One).await;
    }
    let page = look(&gateway, "upstreams")
        .wait("document.querySelector('#notices').textContent.includes('circuit breaker open')")
        .pictures("broken-provider")
        .run("document.querySelector('main section:not([hidden])').innerText")
        .key("2")
        .wait("document.querySelectorAll('main section:not([hidden]) tbody tr').length >= 7")
        .pictures("failed")
        .run("[...document.querySelectorAll('main section:not([hidden]) tbody tr')].find((row) => Number(row.lastChild.textContent) > 1).click()")
        .wait("!document.querySelector('#detail').hidden")
        .pictures("one-failed")
        .run("document.querySelector('#detail').innerText")
        .see()
        .await;
    is_clean(&page, &gateway);
    let (upstreams, detail) = (page.values[2].as_str().unwrap(), page.values[4].as_str().unwrap());
    assert!(upstreams.contains("127.0.0.1:1") && upstreams.contains("open"), "{upstreams}");
    assert!(detail.contains("1. openai") || detail.contains("1. azure-eu"), "{detail}");
}

#[tokio::test]
async fn a_refused_reload() {
    let upstream = simulator().await;
    let first = toml(&upstream.url(), &upstream.url());
    let gateway = Gateway::start(&first);
    let changed =
        first.clone().route("body_limit = \"3MiB\"\nvalidate = \"basic\"").client("models = [\"gpt-4o*\"]");
    gateway.reload(&changed).await;
    let problem = |path: &str, line, message: &'static str| Problem {
        path: path.into(),
        line,
        column: 12,
        message: message.into(),
        help: "".into(),
    };
    gateway.inside().refuse(&Problems {
        file: "/etc/sluicegate/gateway.toml".into(),
        problems: vec![
            problem(
                "route.openai.upstreams[0]",
                41,
                "no upstream `opnai` is defined; did you mean `openai`?",
            ),
            problem("client.team-b.key", 63, "is not the hash of a key"),
        ],
    });
    // Something to read in the log.
    let address = gateway.address();
    let asking = tokio::spawn(async move {
        loop {
            chat(address, Http::One).await;
            let nowhere = post(address, Http::One, "/nowhere").body(whole("{}")).unwrap();
            send(address, Http::One, nowhere).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let page = look(&gateway, "configuration")
        .wait("document.querySelectorAll('.problem').length === 2")
        .pictures("refused-reload")
        .run("document.querySelector('main section:not([hidden])').innerText")
        .key("5")
        .wait("document.querySelectorAll('ol.lines li').length > 8")
        .pictures("log")
        .key("2")
        .pictures("finished")
        .see()
        .await;
    asking.abort();
    is_clean(&page, &gateway);
    let text = page.values[2].as_str().unwrap();
    for part in [
        "Generation 2",
        "gateway.toml:41:12: route.openai.upstreams[0]",
        "route.main.body_limit",
        "\"3MiB\"",
        "not set",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Opens the details of each request that is listed, and returns what they say.
const EACH_DETAIL: &str = "[...document.querySelectorAll('main section:not([hidden]) tbody tr')].map((row) => { row.click(); return document.querySelector('#detail').innerText; }).join(' ')";

/// Texts that would do something if they were taken for markup or for a name of JavaScript.
const HOSTILE: [&str; 5] = [
    "<img src=x onerror=\"window.hit=1\">",
    "\"><svg/onload=window.hit=1>",
    "__proto__",
    "</script><script>window.hit=1</script>",
    "javascript:window.hit=1//\u{202e}\u{0}\u{61c}\u{2028}\u{2029}",
];

#[tokio::test]
async fn hostile_models_and_paths_are_texts() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&toml(&upstream.url(), &upstream.url()));
    let mut client = Client::connect(gateway.address(), Http::Two).await;
    let mut open = Vec::new();
    for text in HOSTILE {
        open.push(ask(&mut client, Http::Two, CLIENT_KEY, text, "delay=600s").await);
        let body = json!({ "model": text, "messages": [] }).to_string();
        let path = format!(
            "/v1/{}",
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
        );
        let asked = post(gateway.address(), Http::One, &path)
            .header("x-simulate", "status=500")
            .body(whole(body))
            .unwrap();
        send(gateway.address(), Http::One, asked).await;
    }
    // Names in the configuration are words; one that is not is refused.
    let named = toml(&upstream.url(), "http://127.0.0.1:1")
        .to_string()
        .replace("client.team-search", "client.\"<img>\"");
    let env = |name: &str| name.starts_with("UPSTREAM").then(|| UPSTREAM_KEY.into());
    let refused =
        sluicegate::config::parse(&named, &sluicegate::config::Env::new(std::path::Path::new("."), &env));
    assert!(refused.is_err());

    let count = HOSTILE.len();
    let page = look(&gateway, "")
        .wait(&format!("document.querySelectorAll('main section:not([hidden]) tbody tr').length >= {count}"))
        .run("document.querySelector('main section:not([hidden])').innerText")
        .pictures("hostile")
        .run("document.querySelector('tbody tr').click()")
        .run("document.querySelector('#detail').innerText")
        .key("2")
        // Paths with an encoded slash are refused before the client is known.
        .wait("document.querySelectorAll('main section:not([hidden]) tbody tr').length >= 2")
        .run(EACH_DETAIL)
        .pictures("hostile-finished")
        .run("[window.hit, Object.prototype.start, document.querySelectorAll('main img, main svg, main script, #detail img').length]")
        .see()
        .await;
    is_clean(&page, &gateway);
    let shown = page.values[2].as_str().unwrap();
    for text in &HOSTILE[..4] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let finished = page.values[5].as_str().unwrap();
    assert!(finished.contains("/v1/%3Cimg%20src%3Dx%20onerror%3D%22window%2Ehit%3D1%22%3E"), "{finished}");
    assert_eq!(page.values.last(), Some(&json!([Value::Null, Value::Null, 0])));
    drop(open);
}

/// The page cancels a request, and the browser lets no other page do it.
#[tokio::test]
async fn the_page_acts_after_it_has_asked_twice() {
    let upstream: Simulator = simulator().await;
    upstream.queue(Script::new(vec![Step::Gate(Gate::new())]));
    let gateway = Gateway::start(&toml(&upstream.url(), &upstream.url()));
    let address = gateway.address();
    let waiting = tokio::spawn(async move { chat(address, Http::One).await });
    let button = "document.querySelector('#detail .danger')";
    let page = look(&gateway, "")
        .wait("document.querySelectorAll('main section:not([hidden]) tbody tr').length === 1")
        .key("ArrowDown")
        .key("Enter")
        .wait(&format!("{button} !== null"))
        .run(&format!("{button}.click()"))
        .run(&format!("{button}.textContent"))
        .run(&format!("{button}.click()"))
        .wait("document.querySelectorAll('main section:not([hidden]) tbody tr').length === 0")
        .see()
        .await;
    is_clean(&page, &gateway);
    assert_eq!(page.values[3], "cancel the request: sure?");
    assert_eq!(&*safely(waiting).await.unwrap().code(), "cancelled_by_operator");
}
