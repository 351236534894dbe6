//! Servers and clients that nobody here wrote, with the gateway between them and without it: PyPI's `websockets` and `openai`, npm's `ws`,
//! `openai` and `@copilotkit/aimock`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use sluicegate::simulator::{Options, Simulator};

use crate::{
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, GatewayToml, UPSTREAM_KEY, simulator},
    sdk::packages,
};

/// A process that says where it listens, and ends when its standard input does.
pub struct Server {
    child: Child,
    said: String,
}

impl Server {
    /// The echo server of `websockets`.
    pub fn echo() -> Self {
        Self::start(packages::python("websocket_echo.py"))
    }

    /// npm's imitation of OpenAI and Anthropic.
    pub fn aimock() -> Self {
        let mut script = packages::node();
        script.arg("aimock.mjs");
        Self::start(script)
    }

    /// llama.cpp's own server with a model that is made for it.
    pub fn llama() -> Self {
        let mut server = packages::llama();
        // It logs each request.
        server.stderr(Stdio::null());
        Self::start(server)
    }

    fn start(mut script: Command) -> Self {
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self { child, said: said.trim().to_owned() }
    }

    /// What it said: a port, or a URL.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// The URL of a server that said its port.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a script has printed.
pub fn result(mut script: Command, arguments: &[&str]) -> Value {
    let output = script.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{errors}"))
}

#[test]
fn openai_python_sees_the_same_events_as_without_the_gateway() {
    let provider = Server::aimock();
    let gateway = Gateway::start(&GatewayToml::before(provider.said(), ""));
    let through = format!("http://{}/v1", gateway.address());
    let direct = format!("{}/v1", provider.said());
    let script = || packages::python("websocket_sdk.py");
    let found = result(script(), &[&through, CLIENT_KEY]);
    let expected = result(script(), &[&direct, "sk-any"]);
    for api in ["realtime", "responses"] {
        assert_eq!(found[api], expected[api], "{api}");
        assert!(found[api].as_array().unwrap().len() > 10, "{found}");
    }
    assert_eq!(found["refused"], json!(["InvalidStatus", 401]));
    let lines = gateway.log.access();
    let turns: Vec<_> = lines.iter().map(|line| (&line["status"], &line["turns"], &line["model"])).collect();
    let (realtime, responses) = (json!("gpt-realtime"), json!("gpt-4o"));
    let (switched, two) = (json!(101), json!(2));
    assert!(turns.contains(&(&switched, &two, &realtime)), "{lines:#?}");
    assert!(turns.contains(&(&switched, &two, &responses)), "{lines:#?}");
    assert!(lines.iter().any(|line| line["tokens_out"].as_u64().is_some()), "{lines:#?}");
}

/// The simulator plays the same APIs, and the mistakes that they report.
#[tokio::test]
async fn openai_python_sees_the_simulator_as_without_the_gateway() {
    let provider = simulator().await;
    let gateway = Gateway::start(&GatewayToml::before(&provider.url(), ""));
    let through = format!("http://{}/v1", gateway.address());
    let direct = format!("{}/v1", provider.url());
    let run = |url: String, key: &'static str| {
        let script = move || result(packages::python("websocket_sdk.py"), &[&url, key, "simulated"]);
        tokio::task::spawn_blocking(script)
    };
    let (found, expected) =
        (run(through, CLIENT_KEY).await.unwrap(), run(direct, UPSTREAM_KEY).await.unwrap());
    for api in ["realtime", "responses", "mistakes", "response_mistakes", "agents"] {
        assert_eq!(found[api], expected[api], "{api}");
    }
    let errors = json!([
        "response_cancel_not_active",
        "input_audio_buffer_commit_empty",
        "invalid_value",
        "session_expired"
    ]);
    let mistakes = found["mistakes"].as_array().unwrap();
    let codes: Vec<_> = mistakes.iter().map(|event| &event[1]).filter(|code| !code.is_null()).collect();
    assert_eq!(json!(codes), errors, "{found}");
    assert_eq!(
        found["response_mistakes"],
        json!([["error", "previous_response_not_found"], ["error", "model_not_found"]])
    );
    let kinds = found["agents"][0].as_array().unwrap();
    assert!(kinds.contains(&"agent_end".into()) && !kinds.contains(&"error".into()), "{found}");
    assert_eq!(found["agents"][1], 20, "{found}");
    let lines = gateway.log.access();
    let of_expired = lines.iter().find(|line| line["error"] == "session_expired").unwrap();
    assert_eq!(
        (&of_expired["close_code"], &of_expired["who"]),
        (&1001.into(), &"upstream".into()),
        "{of_expired}"
    );
    let realtime = lines.iter().find(|line| line["model"] == "gpt-realtime" && line["turns"] == 2).unwrap();
    assert_eq!((&realtime["tokens_in"], &realtime["tokens_out"]), (&18.into(), &40.into()), "{realtime}");
    let record = provider.records().into_iter().find(|record| record.target.contains("/realtime")).unwrap();
    assert!(record.body.starts_with(br#"{"type": "session.update""#), "{record:?}");
}

#[test]
fn ws_and_openai_node_over_tls() {
    let folder = Folder::new();
    let mut making = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    assert!(making.arg("cert").current_dir(folder.path("")).output().unwrap().status.success());
    let [certificate, key, ca] =
        ["certs/server.pem", "certs/server.key", "certs/ca.pem"].map(|name| folder.path(name));
    let files = format!("certificate = {certificate:?}, key = {key:?}");
    let (echo, provider) = (Server::echo(), Server::aimock());
    let simulated = Simulator::spawn_threads(&Options::default(), 1).unwrap();
    let toml = GatewayToml::new()
        .listener(format!("tls = {{ {files} }}"))
        .upstream("echo", &echo.url(), "")
        .upstream("simulated", &simulated.url(), "")
        .upstream("provider", provider.said(), "")
        .route_to("upstreams = [\"provider\"]")
        .more("[route.echo]\npath = \"/echo\"\nupstreams = [\"echo\"]")
        .more("[route.simulated]\npath = \"/simulated\"\nupstreams = [\"simulated\"]");
    let gateway = Gateway::start(&toml);
    let port = gateway.address().port();
    let mut script = packages::node();
    script.env("NODE_EXTRA_CA_CERTS", &ca).arg("websocket.mjs");
    let base = format!("https://localhost:{port}");
    let [echo, provider, simulated] =
        [format!("wss://localhost:{port}/echo"), format!("{base}/v1"), format!("{base}/simulated/v1")];
    let found = result(script, &[&echo, &provider, CLIENT_KEY, &simulated]);
    let echoed = json!(["realtime", "", true, true, true, true, "beat", 4000, "enough"]);
    assert_eq!(found["echoed"], echoed);
    assert_eq!(found["refused"], 401);
    let types = found["realtime"].as_array().unwrap();
    assert!(
        types.contains(&"response.output_text.delta".into()) && types.last() == Some(&"response.done".into())
    );
    let types = found["simulated"].as_array().unwrap();
    assert!(types.contains(&"response.output_audio.delta".into()), "{types:?}");
    assert_eq!(found["responses"], json!([20, 20, "previous_response_not_found"]));
}
