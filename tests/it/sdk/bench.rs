//! A simulated upstream and a gateway before it, as processes.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

const SLUICEGATE: &str = env!("CARGO_BIN_EXE_sluicegate");

/// What the simulator asks for. Random enough to be found wherever it should not be.
const UPSTREAM_KEY: &str = "sk-upstream-5Zq0uT7mWc2VhN8r";
/// What it does not ask for.
const REFUSED_KEY: &str = "sk-upstream-refused-Xf31LbPz9";

/// Both processes, and the files they use.
pub(super) struct Bench {
    folder: PathBuf,
    keys: Keys,
    simulator: Process,
    gateway: Process,
    /// Holds a port on which nobody listens.
    _closed: Socket,
}

/// The callers' keys.
struct Keys {
    /// May do anything.
    all: String,
    /// May use one route alone.
    routes: String,
    /// May use some models alone.
    models: String,
}

/// What the gateway wrote in its life.
pub(super) struct Log {
    folder: PathBuf,
    secrets: Vec<String>,
    stdout: Vec<String>,
    stderr: String,
}

/// A child process, ended with this.
struct Process {
    child: Child,
    /// The lines up to the one that was waited for.
    first: Vec<String>,
    rest: Option<JoinHandle<Vec<String>>>,
}

impl Bench {
    /// Starts both; returns when both listen.
    pub(super) fn start(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sdk-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        certificates(&folder);
        let simulator = simulator(&folder);
        let upstream = simulator.first.last().unwrap().rsplit_once(' ').unwrap().1.to_owned();
        let (closed, closed_address) = closed_port();
        let (keys, clients) = keys();
        let config = configuration(&upstream, closed_address)
            + &with_models(&upstream)
            + &elsewhere(&upstream)
            + &clients;
        fs::write(folder.join("gateway.toml"), config).unwrap();
        let gateway = gateway(&folder);
        Self { folder, keys, simulator, gateway, _closed: closed }
    }

    /// Tells a script all it needs to know.
    pub(super) fn introduce(&self, script: &mut Command) {
        let simulator = self.simulator.first.last().unwrap().rsplit_once(' ').unwrap().1;
        introduce(script, &self.folder, &self.gateway.address());
        script
            .env("KEY_ALL", &self.keys.all)
            .env("KEY_ROUTES", &self.keys.routes)
            .env("KEY_MODELS", &self.keys.models)
            .env("SIMULATOR_URL", simulator)
            .env("REPORT", self.report());
    }

    /// Where a script puts its report.
    pub(super) fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// Where everything is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks the gateway to end, which it must do in order, and gives what it wrote.
    pub(super) fn stop(mut self) -> Log {
        let stdout = self.gateway.terminate();
        let Keys { all, routes, models } = self.keys;
        let upstream = [UPSTREAM_KEY, REFUSED_KEY].map(str::to_owned);
        Log {
            stderr: fs::read_to_string(self.folder.join("gateway.stderr")).unwrap(),
            secrets: [vec![all, routes, models], upstream.into()].concat(),
            folder: self.folder,
            stdout,
        }
    }
}

impl Log {
    /// The access lines. Every line of the log is JSON.
    pub(super) fn access(&self) -> Vec<Value> {
        let lines = self.stdout.iter().map(|line| serde_json::from_str::<Value>(line).expect(line));
        lines.filter(|line| line["kind"] == "access").collect()
    }

    /// No key of either side is in it.
    pub(super) fn holds_no_secret(&self) {
        for secret in &self.secrets {
            let found = self.stdout.iter().find(|line| line.contains(secret.as_str()));
            assert!(found.is_none(), "a key is in the log: {found:?}");
            assert!(!self.stderr.contains(secret.as_str()), "a key is on stderr");
        }
    }

    /// All is well: the files are not needed any more.
    pub(super) fn forget(&self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Process {
    /// Starts it and reads what it prints up to a line that is `awaited`.
    fn start(command: &mut Command, awaited: impl Fn(&str) -> bool) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, first: Vec::new(), rest: None };
        while process.first.last().is_none_or(|line| !awaited(line)) {
            process.first.push(line(&mut stdout).expect("it says that it listens"));
        }
        let rest = move || std::iter::from_fn(|| line(&mut stdout)).collect();
        process.rest = Some(thread::spawn(rest));
        process
    }

    /// Where the gateway listens, as its own message has it.
    fn address(&self) -> String {
        let message: Value = serde_json::from_str(self.first.last().unwrap()).unwrap();
        let addresses = message["addresses"].as_str().unwrap();
        addresses.trim_matches(['[', ']']).to_owned()
    }

    /// Asks it to end and waits until it has; gives all that it printed.
    fn terminate(&mut self) -> Vec<String> {
        // The shell's own `kill` is everywhere; the standard library sends SIGKILL alone.
        told(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.child.id().to_string()]));
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the gateway ends with {status}");
        let mut lines = std::mem::take(&mut self.first);
        lines.extend(self.rest.take().unwrap().join().unwrap());
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes `certs/` in `folder`.
pub(super) fn certificates(folder: &Path) {
    told(Command::new(SLUICEGATE).arg("cert").current_dir(folder));
}

/// Tells a script where the gateway is and whom to trust, and nothing that the tester has set for themselves.
pub(super) fn introduce(script: &mut Command, folder: &Path, gateway: &str) {
    let ca = folder.join("certs/ca.pem");
    without_settings(script);
    let url = format!("https://{gateway}");
    script.env("GATEWAY_URL", url).env("GATEWAY_CA", &ca).env("NODE_EXTRA_CA_CERTS", &ca);
}

/// Removes what the tester has set for their own SDKs.
pub(super) fn without_settings(script: &mut Command) {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let is_an_sdks =
            ["OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_"].iter().any(|prefix| name.starts_with(prefix));
        if is_an_sdks || name.to_ascii_lowercase().ends_with("_proxy") {
            script.env_remove(&*name);
        }
    }
}

fn simulator(folder: &Path) -> Process {
    let stderr = File::create(folder.join("simulator.stderr")).unwrap();
    let arguments = ["simulate", "--listen", "127.0.0.1:0", "--pace", "0ms", "--require-key", UPSTREAM_KEY];
    let mut command = Command::new(SLUICEGATE);
    Process::start(command.args(arguments).stderr(stderr), |line| line.contains("http://"))
}

fn gateway(folder: &Path) -> Process {
    let stderr = File::create(folder.join("gateway.stderr")).unwrap();
    let mut command = Command::new(SLUICEGATE);
    command.args(["serve", "--config", "gateway.toml"]).current_dir(folder).stderr(stderr);
    command.env("SDK_UPSTREAM_KEY", UPSTREAM_KEY).env("SDK_REFUSED_KEY", REFUSED_KEY);
    Process::start(&mut command, |line| line.contains(r#""message":"serving""#))
}

fn configuration(upstream: &str, closed: SocketAddr) -> String {
    format!(
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        tls = {{ certificate = "certs/server.pem", key = "certs/server.key" }}
        [server]
        threads = 2
        [defaults]
        retry = "off"
        breaker = "off"
        languages = ["en", "zh"]
        [[error]]
        when = {{ code = "rate_limit_exceeded", upstream = "busy" }}
        message = {{ en = "All capacity is in use.", zh = "当前容量已满，请稍后重试。" }}
        status = 503
        code = "capacity"
        [upstream.busy]
        url = "{upstream}"
        key = {{ env = "SDK_UPSTREAM_KEY" }}
        [route.busy]
        path = "/busy"
        rewrite = "/v1"
        upstreams = ["busy"]
        [upstream.main]
        url = "{upstream}"
        key = {{ env = "SDK_UPSTREAM_KEY" }}
        [upstream.refusing]
        url = "{upstream}"
        key = {{ env = "SDK_REFUSED_KEY" }}
        [upstream.gone]
        url = "http://{closed}"
        key = {{ env = "SDK_UPSTREAM_KEY" }}
        [route.main]
        path = "/v1"
        upstreams = ["main"]
        [route.small]
        path = "/small"
        rewrite = "/v1"
        body_limit = "64KiB"
        upstreams = ["main"]
        [route.refusing]
        path = "/refusing"
        rewrite = "/v1"
        upstreams = ["refusing"]
        [route.gone]
        path = "/gone"
        rewrite = "/v1"
        upstreams = ["gone"]
        [route.again]
        path = "/again"
        rewrite = "/v1"
        upstreams = ["main"]
        retry = {{ retries = 3, backoff = "50ms" }}
        "#
    )
}

/// A route with tables of models, whose list is the gateway's own, and two before an Azure resource: for OpenAI's paths and for Azure's.
fn with_models(upstream: &str) -> String {
    format!(
        r#"
        [route.listed]
        path = "/listed/v1"
        rewrite = "/v1"
        upstreams = ["main"]
        model_tables = "only"
        model_list = "configured"
        [model."gpt-4o"]
        upstreams = ["main"]
        aliases = ["default"]
        [model."org/gpt-4o"]
        upstreams = ["main"]
        [model."gpt-4o-*"]
        upstreams = [{{ upstream = "main", model = "gpt-4o-mini" }}]
        [upstream.azure]
        url = "{upstream}"
        auth = {{ header = "api-key" }}
        key = {{ env = "SDK_UPSTREAM_KEY" }}
        azure = {{ api_version = "2024-10-21" }}
        [route.azure]
        path = "/azure/v1"
        rewrite = "/"
        upstreams = ["azure"]
        [route.azure-client]
        path = "/azure-client"
        rewrite = "/"
        upstreams = ["azure"]
        "#
    )
}

/// Routes with an upstream that is gone, one that refuses the gateway's key, and one that responds. A refused key cools down, so each kind
/// of client has a route and a refusing upstream of its own.
fn elsewhere(upstream: &str) -> String {
    let route = |kind: usize| {
        format!(
            r#"
        [upstream.refusing-{kind}]
        url = "{upstream}"
        key = {{ env = "SDK_REFUSED_KEY" }}
        [route.elsewhere-{kind}]
        path = "/elsewhere-{kind}"
        rewrite = "/v1"
        upstreams = ["gone", "refusing-{kind}", "main"]
        retry = {{ retries = 3, backoff = "50ms" }}
        "#
        )
    };
    (0..4).map(route).collect()
}

/// Three callers, as `key new` makes them, and their tables.
fn keys() -> (Keys, String) {
    let (all, all_table) = key("all");
    let (routes, routes_table) = key("some-routes");
    let (models, models_table) = key("some-models");
    let tables =
        format!("\n{all_table}\n{routes_table}routes = [\"small\"]\n{models_table}models = [\"gpt-4o*\"]\n");
    (Keys { all, routes, models }, tables)
}

fn key(name: &str) -> (String, String) {
    let table = told(Command::new(SLUICEGATE).args(["key", "new", name]));
    let key = table.split_whitespace().find(|word| word.starts_with("sk-sg-")).expect("a key");
    (key.to_owned(), table)
}

/// A port that is taken, and refuses connections.
fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// What a command that must succeed prints.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn line(stdout: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut line = String::new();
    let length = stdout.read_line(&mut line).unwrap();
    (length > 0).then(|| line.trim_end_matches('\n').to_owned())
}
