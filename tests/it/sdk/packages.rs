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

/// Node with the packages about it; the caller names a script.
pub fn node() -> Command {
    let folder = folder("node");
    let _alone = lock(&folder);
    // A module finds its packages beside itself, so it has to be where they are.
    for file in [
        "package.json",
        "package-lock.json",
        "openai.test.mjs",
        "faults.mjs",
        "anthropic.mjs",
        "aimock.mjs",
        "websocket.mjs",
        "calls.mjs",
        "clients.mjs",
    ] {
        fs::copy(Path::new(SCRIPTS).join(file), folder.join(file)).unwrap();
    }
    let wanted = fs::read_to_string(folder.join("package-lock.json")).unwrap();
    install(&folder, &wanted, || {
        let hint = "node (20 or newer) is needed; on Debian: apt-get install nodejs npm";
        must(
            Command::new("node").args(["-e", "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)"]),
            hint,
        );
        let hint = "npm could not install the packages in tests/sdk/package-lock.json; it needs npm and its registry";
        let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"];
        must(Command::new("npm").args(arguments).current_dir(&folder), hint);
    });
    let mut script = Command::new("node");
    script.current_dir(&folder);
    script
}

/// The folder of one of these packages.
pub fn node_package(name: &str) -> PathBuf {
    // Installs it first.
    drop(node());
    folder("node").join("node_modules").join(name)
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
