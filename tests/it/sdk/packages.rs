//! The SDKs themselves: installed once, in versions that are pinned, under the target folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The scripts, and the versions of what they use.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk");

/// A Python script, ready to be started: one of `tests/sdk`, or any by its absolute path.
pub fn python(name: &str) -> Command {
    let mut script = interpreter();
    script.arg("-B").arg(Path::new(SCRIPTS).join(name));
    script
}

/// Python with the packages; the caller names a script.
pub fn interpreter() -> Command {
    Command::new(venv(&folder("python"), &Path::new(SCRIPTS).join("requirements.txt")))
}

/// A collector of traces and metrics that is built on OpenTelemetry's own package. It prints its URL, then a line for each request.
pub fn otlp_receiver() -> Command {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp");
    let mut receiver = Command::new(venv(&folder("otlp"), &sources.join("requirements.txt")));
    receiver.arg("-B").arg(sources.join("receiver.py"));
    receiver
}

/// Python with what `deploy/grafana/draw` needs.
pub fn plotter() -> Command {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/requirements.txt");
    Command::new(venv(&folder("plotter"), &requirements))
}

/// A command of Phoenix, the viewer of traces. Its packages have 900 MB.
pub fn phoenix() -> Command {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/phoenix.txt");
    Command::new(venv(&folder("phoenix"), &requirements).with_file_name("phoenix"))
}

/// llama.cpp's server, which prints its URL, with a model made on the spot (`tests/first-token`).
pub fn llama() -> Command {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/first-token");
    let folder = folder("llama");
    let python = venv(&folder, &sources.join("requirements.txt"));
    let model = folder.join("tiny.gguf");
    must(
        Command::new(&python).arg("-B").arg(sources.join("model.py")).arg(&model),
        "the model could not be made",
    );
    let mut server = Command::new(python);
    server.arg("-B").arg(sources.join("server.py")).arg(model);
    server
}

/// What `PATH` must be so that Claude Code, Codex and aider are found.
pub fn tools() -> String {
    let folder = folder("tools");
    let scripts = Path::new(SCRIPTS);
    let aider = venv(&folder, &scripts.join("aider.txt")).with_file_name("");
    let npm = folder.join("npm");
    fs::create_dir_all(&npm).unwrap();
    let _alone = lock(&npm);
    for file in ["package.json", "package-lock.json"] {
        fs::copy(scripts.join("tools").join(file), npm.join(file)).unwrap();
    }
    let wanted = fs::read_to_string(npm.join("package-lock.json")).unwrap();
    install(&npm, &wanted, || {
        npm_install(&npm);
        let script = npm.join("node_modules/@anthropic-ai/claude-code/install.cjs");
        must(Command::new("node").arg(script), "Claude Code's own installation failed");
    });
    let own = std::env::var("PATH").unwrap();
    format!("{}:{}:{own}", npm.join("node_modules/.bin").display(), aider.display())
}

/// mdBook, in the version that `docs/requirements.txt` pins.
pub fn mdbook() -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/requirements.txt");
    venv(&folder("mdbook"), &requirements).with_file_name("mdbook")
}

/// The interpreter of a virtual environment in `folder` with what `requirements` names.
fn venv(folder: &Path, requirements: &Path) -> PathBuf {
    let _alone = lock(folder);
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    let wanted = fs::read_to_string(requirements).unwrap();
    install(folder, &wanted, || {
        let hint = "python3 (3.11 or newer) with its venv module is needed; on Debian: apt-get install python3 python3-venv";
        must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), hint);
        let hint = format!(
            "the packages in {} could not be installed from the package index",
            requirements.display()
        );
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"]);
        must(pip.arg(requirements), &hint);
    });
    python
}

/// Python with LangChain, for one of the scripts in `tests/sdk/frameworks`.
pub fn frameworks_python(name: &str) -> Command {
    let scripts = Path::new(SCRIPTS).join("frameworks");
    let mut script = Command::new(venv(&folder("frameworks-python"), &scripts.join("requirements.txt")));
    script.arg("-B").arg(scripts.join(name));
    script
}

/// Node with the AI SDK, for one of the scripts in `tests/sdk/frameworks`.
pub fn frameworks_node(name: &str) -> Command {
    let mut script = node_in(&folder("frameworks-node"), &Path::new(SCRIPTS).join("frameworks"), &[name]);
    script.arg(name);
    script
}

/// Node with the packages about it; the caller names a script.
pub fn node() -> Command {
    const FILES: [&str; 8] = [
        "openai.test.mjs",
        "faults.mjs",
        "anthropic.mjs",
        "aimock.mjs",
        "websocket.mjs",
        "calls.mjs",
        "clients.mjs",
        "sockets.mjs",
    ];
    node_in(&folder("node"), Path::new(SCRIPTS), &FILES)
}

/// Node in `folder`, with the packages and the files of `scripts`.
fn node_in(folder: &Path, scripts: &Path, files: &[&str]) -> Command {
    let _alone = lock(folder);
    // A module finds its packages beside itself, so it has to be where they are.
    for file in ["package.json", "package-lock.json"].iter().chain(files) {
        fs::copy(scripts.join(file), folder.join(file)).unwrap();
    }
    let wanted = fs::read_to_string(folder.join("package-lock.json")).unwrap();
    install(folder, &wanted, || {
        let hint = "node (20 or newer) is needed; on Debian: apt-get install nodejs npm";
        must(
            Command::new("node").args(["-e", "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)"]),
            hint,
        );
        npm_install(folder);
    });
    let mut script = Command::new("node");
    script.current_dir(folder);
    script
}

/// The folder of one of these packages.
pub fn node_package(name: &str) -> PathBuf {
    // Installs it first.
    drop(node());
    folder("node").join("node_modules").join(name)
}

fn npm_install(folder: &Path) {
    let hint = "npm could not install the packages in package-lock.json; it needs npm and its registry";
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"];
    must(Command::new("npm").args(arguments).current_dir(folder), hint);
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Two test runs may share a target folder.
fn lock(folder: &Path) -> File {
    let file = File::create(folder.join("lock")).unwrap();
    file.lock().unwrap();
    file
}

/// Installs, unless what is `wanted` is there already.
fn install(folder: &Path, wanted: &str, how: impl FnOnce()) {
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return;
    }
    how();
    fs::write(installed, wanted).unwrap();
}

/// Runs what must succeed, or says what is missing.
fn must(command: &mut Command, hint: &str) {
    match command.output() {
        Err(error) => panic!("{hint}\n{command:?}: {error}"),
        Ok(output) if !output.status.success() => {
            let told = [output.stdout, output.stderr].concat();
            panic!("{hint}\n{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&told));
        }
        Ok(_) => {}
    }
}
