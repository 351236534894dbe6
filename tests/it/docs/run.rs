//! Where the blocks of a page run: a folder, a simulated provider, and the built program under its name.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use sluicegate::{
    config::KeyHash,
    simulator::{Options, Simulator},
};

use super::page::root;
use crate::{cli::process::BINARY, folder::Folder, sdk::packages};

/// The key that clients have in the place of `sk-sg-...`.
const CLIENT_KEY: &str = "sk-sg-dG9iZS1yZXBsYWNlZC1ieS1hLXJlYWwtb25lLTEyMzQ";
/// The value of every variable and file from which a configuration reads a secret.
const SECRET: &str = "sk-provider-7Hq2mXw9TzLr4NvB";
/// Ports of the gateway in the manual.
const PORTS: [&str; 3] = ["8080", "8443", "9901"];
/// Ports of inference servers in the manual: here the simulator's.
const SERVERS: [&str; 3] = ["11434", "8000", "9000"];
/// No block takes longer, in seconds.
const LONGEST: &str = "60";

/// In the place of `sluicegate`: what serves goes on in the background, at the ports of the stage.
const WRAPPER: &str = r#"#!/usr/bin/env bash
set -euo pipefail
case ${1:-serve} in
run) set -- "$@" --listen "127.0.0.1:$PORT_8080" --admin "127.0.0.1:$PORT_9901" ;;
demo) set -- "$@" --listen "127.0.0.1:$PORT_8443" --plain "127.0.0.1:$PORT_8080" --admin "127.0.0.1:$PORT_9901" ;;
serve) ;;
*) exec "$REAL" "$@" ;;
esac
"$STAGE/bin/stop"
"$REAL" "$@" >"$STAGE/output" 2>&1 </dev/null &
echo $! >"$STAGE/pid"
for ((tries = 0; tries < 300; tries++)); do
    if grep -q '"message":"serving"\|^curl ' "$STAGE/output"; then exit; fi
    kill -0 "$(cat "$STAGE/pid")" 2>/dev/null || break
    sleep 0.1
done
cat "$STAGE/output" >&2
exit 1
"#;

const STOP: &str = r#"#!/usr/bin/env bash
[[ -f $STAGE/pid ]] || exit 0
pid=$(cat "$STAGE/pid")
rm "$STAGE/pid"
kill -KILL "$pid" 2>/dev/null || exit 0
# Until it is gone, or only its parent has yet to hear of it.
for ((tries = 0; tries < 100; tries++)); do
    grep -q '^State:.*[^Z] (' "/proc/$pid/status" 2>/dev/null || exit 0
    sleep 0.05
done
"#;

/// `cargo run -- COMMAND` is the program; whatever builds does nothing here.
const CARGO: &str = r#"#!/usr/bin/env bash
case $1 in
run) shift; [[ ${1:-} == -- ]] && shift; exec sluicegate "$@" ;;
install | build | test) exit 0 ;;
*) echo "cargo $1: the tests of the manual do not know it" >&2; exit 1 ;;
esac
"#;

const CURL: &str = r#"#!/usr/bin/env bash
[[ " $* " == *" --fail"* ]] || set -- --fail-with-body "$@"
PATH=${PATH#*:} exec curl "$@"
"#;

/// How a command ended.
pub struct Done {
    pub ok: bool,
    pub said: String,
}

pub fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Done { ok: output.status.success(), said }
}

/// See the [module](self).
pub struct Stage {
    folder: Folder,
    simulator: Simulator,
    ports: Vec<(&'static str, String)>,
    /// The variables from which configurations of the page read secrets.
    variables: BTreeSet<String>,
}

impl Stage {
    /// For a page with this text.
    pub fn new(page: &str) -> Self {
        let simulator = Simulator::spawn_threads(&Options::default(), 1).unwrap();
        let sockets = PORTS.map(|port| (port, TcpListener::bind("127.0.0.1:0").unwrap()));
        let ports =
            sockets.map(|(port, socket)| (port, socket.local_addr().unwrap().port().to_string())).to_vec();
        let stage = Self { folder: Folder::new(), simulator, ports, variables: quoted(page, "env = ") };
        stage.install_commands();
        stage.install_system();
        if !page.contains("\nsluicegate cert") {
            done(stage.command(BINARY).args(["cert", "--out", &stage.folder.path("certs")]));
        }
        for file in quoted(page, "file = ") {
            stage.put(&file, SECRET, 0o600);
        }
        stage
    }

    /// The next `gateway.toml`.
    pub fn configure(&mut self, text: &str) -> Result<(), String> {
        self.stop();
        let text = text.replace("sha256:…", &KeyHash::of(CLIENT_KEY.as_bytes()).to_string());
        // As it is written, with certificates and secrets where it expects them.
        let original = Folder::new();
        let pem = text.split('"').skip(1).step_by(2).filter(|name| name.ends_with(".pem")).map(str::to_owned);
        let files = quoted(&text, "file = ").into_iter().chain(pem);
        fs::create_dir(original.path("certs")).unwrap();
        done(self.command(BINARY).args(["cert", "--out", &original.path("certs")]));
        for name in files.filter(|name| !Path::new(&original.path(name)).exists()) {
            if let Some(pair) = name.strip_suffix(".pem") {
                fs::copy(original.path("certs/server.pem"), original.path(&name)).unwrap();
                fs::copy(original.path("certs/server.key"), original.path(&format!("{pair}.key"))).unwrap();
            } else {
                original.write(&name, SECRET);
            }
        }
        for directory in quoted(&text, "directory = ").iter().filter(|path| Path::new(path).is_relative()) {
            fs::create_dir_all(original.path(directory)).unwrap();
            fs::create_dir_all(self.folder.path(directory)).unwrap();
        }
        let file = original.write("gateway.toml", &text);
        let checked = done(self.command(BINARY).args(["check", "--config", &file]));
        if !checked.ok || checked.said.contains("warning") {
            return Err(checked.said);
        }
        // As the page's commands use it: in front of the simulator.
        self.put("gateway.toml", &self.here(&before(&text, &self.simulator.url())), 0o644);
        Ok(())
    }

    /// Runs commands.
    pub fn shell(&self, text: &str) -> Result<(), String> {
        let file = self.folder.write("block.sh", &self.here(text));
        self.bounded("bash", &["-euo", "pipefail", &file])
    }

    /// Runs a program that uses the SDKs.
    pub fn python(&self, text: &str) -> Result<(), String> {
        self.serve()?;
        let file = self.folder.write("block.py", &self.here(text));
        self.bounded(packages::interpreter().get_program().to_str().unwrap(), &["-B", &file])
    }

    /// The same in JavaScript. A module finds its packages beside itself.
    pub fn node(&self, text: &str) -> Result<(), String> {
        self.serve()?;
        let beside = packages::node();
        let file = beside.get_current_dir().unwrap().join(format!("manual-{}.mjs", std::process::id()));
        fs::write(&file, self.here(text)).unwrap();
        let result = self.bounded("node", &[file.to_str().unwrap()]);
        fs::remove_file(file).unwrap();
        result
    }

    /// Starts a gateway with the page's configuration, unless one runs.
    fn serve(&self) -> Result<(), String> {
        if Path::new(&self.folder.path("pid")).exists() {
            return Ok(());
        }
        self.bounded("sluicegate", &["serve"])
    }

    fn stop(&self) {
        done(&mut self.command(&self.folder.path("bin/stop")));
    }

    fn bounded(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.command("timeout");
        command.args(["--kill-after=5", LONGEST, program]).args(arguments);
        // What a reader would paste.
        command.stdin(fs::File::open(self.folder.write("stdin", SECRET)).unwrap());
        let Done { ok, said } = done(&mut command);
        if ok { Ok(()) } else { Err(said) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        let path = format!("{}:{}", self.folder.path("bin"), std::env::var("PATH").unwrap());
        command
            .current_dir(self.folder.path(""))
            .env("PATH", path)
            .env("STAGE", self.folder.path(""))
            // What is killed leaves its temporary files there.
            .env("TMPDIR", self.folder.path(""))
            .env("REAL", BINARY);
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        for (port, own) in &self.ports {
            command.env(format!("PORT_{port}"), own);
        }
        command
            .env("HOME", self.folder.path(""))
            .env("CLIENT_KEY", CLIENT_KEY)
            .env("SLUICEGATE_CLIENT_KEY", CLIENT_KEY);
        command.envs(self.variables.iter().map(|name| (name, SECRET)));
        command
    }

    /// A block with the addresses, paths and keys of this stage.
    fn here(&self, text: &str) -> String {
        let mut text = text.replace("sk-sg-...", CLIENT_KEY).replace("/etc/", &self.folder.path("etc/"));
        for (port, own) in &self.ports {
            text = text.replace(&format!(":{port}"), &format!(":{own}"));
        }
        let simulator = self.simulator.url();
        let (_, port) = simulator.rsplit_once(':').unwrap();
        for server in SERVERS {
            text = text.replace(&format!(":{server}"), &format!(":{port}"));
        }
        text
    }

    /// The program, and stand-ins for what builds, needs root or changes the system.
    fn install_commands(&self) {
        fs::create_dir(self.folder.path("bin")).unwrap();
        self.put("bin/sluicegate", WRAPPER, 0o755);
        self.put("bin/stop", STOP, 0o755);
        self.put("bin/cargo", CARGO, 0o755);
        // An error is no answer, also where a reader would see it without an option.
        self.put("bin/curl", CURL, 0o755);
        for command in ["apt", "apt-get", "systemctl", "journalctl", "man"] {
            self.put(&format!("bin/{command}"), "#!/bin/sh\ncat >/dev/null\n", 0o755);
        }
        let python = format!("#!/bin/sh\nexec {:?} \"$@\"\n", packages::interpreter().get_program());
        self.put("bin/python", &python, 0o755);
        // The scripts of the repository are there, and can be read by bash; what they do is tested elsewhere.
        for script in ["tests/setup", "docs/try", "deploy/package", "deploy/build"] {
            let folder = Path::new(script).parent().unwrap().to_str().unwrap();
            fs::create_dir_all(self.folder.path(folder)).unwrap();
            self.put(
                script,
                &format!("#!/bin/sh\nexec bash -n '{}'\n", root().join(script).display()),
                0o755,
            );
        }
    }

    /// What the Debian package installs, and what its reader brings.
    fn install_system(&self) {
        for folder in ["etc/credstore", "etc/sluicegate/certs", "certs"] {
            fs::create_dir_all(self.folder.path(folder)).unwrap();
        }
        fs::copy(root().join("systemd/gateway.toml"), self.folder.path("etc/sluicegate/gateway.toml"))
            .unwrap();
        self.put("sluicegate.deb", "", 0o644);
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.write(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The texts in quotes that follow `key`.
fn quoted(text: &str, key: &str) -> BTreeSet<String> {
    let opening = format!("{key}\"");
    text.split(&opening)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .filter(|name| !name.contains('…'))
        .collect()
}

/// A configuration with the simulator in the place of every provider: the paths of base URLs stay.
fn before(text: &str, simulator: &str) -> String {
    let mut pieces = text.split("url = \"");
    let mut own = pieces.next().unwrap_or_default().to_owned();
    for (index, piece) in pieces.enumerate() {
        // Two targets of an upstream need two names.
        let simulator =
            if index % 2 == 1 { simulator.replace("127.0.0.1", "localhost") } else { simulator.to_owned() };
        let (url, rest) = piece.split_once('"').unwrap();
        // Only providers are replaced.
        if !url.starts_with("http") {
            own.push_str(&format!("url = \"{url}\"{rest}"));
            continue;
        }
        let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        own.push_str(&format!("url = \"{simulator}{path}\"{rest}"));
    }
    own
}
