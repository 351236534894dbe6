//! `demo`: the gateway in front of the simulator, with TLS, and commands to try it.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use super::{DemoOptions, cert, key};
use crate::{
    app::{App, AppError, Surroundings},
    config::{self, Config, Env, KeyHash, Problems},
    simulator::{Options, Simulator},
};

/// The key that the simulator requires and the gateway adds.
const UPSTREAM_KEY: &str = "sk-demo-upstream";

/// Pause between two words of a response.
const PACE: Duration = Duration::from_millis(40);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Certificate(#[from] cert::Error),
    #[error("demo folder {} could not be created", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    #[error("simulated upstream could not be started")]
    Simulator(#[source] io::Error),
    #[error(transparent)]
    Key(#[from] key::Error),
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    App(#[from] AppError),
}

/// The demo's temporary folder, removed when dropped.
struct Folder(PathBuf);

/// Runs both until a signal stops them.
pub(super) fn run(options: &DemoOptions) -> ExitCode {
    match demo(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

fn demo(options: &DemoOptions) -> Result<(), Error> {
    let folder = Folder::new()?;
    folder.certify()?;
    let simulated = Options { require_key: Some(UPSTREAM_KEY.to_owned()), pace: PACE, ..Options::default() };
    let simulator = Simulator::spawn_threads(&simulated, 1).map_err(Error::Simulator)?;
    let client_key = key::generate()?;
    let config = configuration(options, &folder.0, simulator.addr(), &client_key)?;
    let app = App::start(config, Surroundings::interactive())?;
    if let Some(address) = app.addresses().first() {
        super::print(instructions(*address, options, &folder.0, &client_key));
    }
    app.run()?;
    Ok(())
}

impl Folder {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("sluicegate-demo-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::Folder(path.clone(), error))?;
        Ok(Self(path))
    }

    fn certify(&self) -> Result<(), Error> {
        Ok(cert::Development::new(&[]).map_err(cert::Error::from)?.write(&self.0)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "demo folder could not be removed");
        }
    }
}

/// The demo's gateway.toml.
fn configuration(
    options: &DemoOptions,
    folder: &Path,
    upstream: SocketAddr,
    client_key: &str,
) -> Result<Config, Problems> {
    let hash = KeyHash::of(client_key.as_bytes());
    let DemoOptions { listen, plain, admin } = options;
    let text = format!(
        r#"
        [[listener]]
        address = "{listen}"
        tls = {{ certificate = "server.pem", key = "server.key" }}
        [[listener]]
        address = "{plain}"
        [admin]
        address = "{admin}"
        [log]
        format = "text"
        level = "warn"
        [upstream.simulator]
        url = "http://{upstream}"
        key = {{ env = "SLUICEGATE_DEMO_KEY" }}
        [route.demo]
        path = "/v1"
        upstreams = ["simulator"]
        [client.you]
        key = "{hash}"
        "#
    );
    let variable = |name: &str| (name == "SLUICEGATE_DEMO_KEY").then(|| OsString::from(UPSTREAM_KEY));
    config::parse(&text, &Env::new(folder, &variable))
        .map_err(|problems| Problems { file: PathBuf::from("the demo configuration"), problems })
}

fn instructions(address: SocketAddr, options: &DemoOptions, folder: &Path, key: &str) -> String {
    let (plain, admin, folder) = (options.plain, options.admin, folder.display());
    format!(
        r#"Sluicegate listens on https://{address}/v1 and http://{plain}/v1, and its admin listener on http://{admin}.
Its upstream is simulated; the upstream's key never reaches you. Ctrl-C stops both.

A streamed response over TLS. Paste into another terminal:

curl -N --cacert {folder}/ca.pem https://{address}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"model": "gpt-4o-mini", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

The same with the official OpenAI Python SDK, in its own venv (about 20 s the first time):

python3 -m venv {folder}/venv && {folder}/venv/bin/pip install --quiet openai && {folder}/venv/bin/python - <<'PYTHON'
import ssl, openai
trust = ssl.create_default_context(cafile="{folder}/ca.pem")
client = openai.OpenAI(base_url="https://{address}/v1", api_key="{key}", http_client=openai.DefaultHttpxClient(verify=trust))
for chunk in client.chat.completions.create(model="gpt-4o-mini", stream=True, messages=[{{"role": "user", "content": "Hello"}}]):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
print()
PYTHON

One log line per request follows.

"#
    )
}
