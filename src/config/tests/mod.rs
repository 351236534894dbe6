//! The file as a whole: what is refused and with which message, what is inherited, what the shipped sample says.

mod accounts;
mod azure;
mod client_files;
mod clients;
mod errors;
mod files;
mod generated;
mod inheritance;
mod limits;
mod mistakes;
mod models;
mod pricing;
mod sample;
mod schema_agrees;
mod secrets;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Config, Env, Problem, parse};

/// The shortest file that is sound.
const SOUND: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[upstream.openai]
url = "https://api.openai.com"
key = { env = "OPENAI_API_KEY" }
[route.openai]
path = "/v1"
upstreams = ["openai"]
[client.team-a]
key = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"#;

const UPSTREAM_KEY: &str = "sk-upstream-Zx81yBq7";

/// Reads a text with `OPENAI_API_KEY` set, and relative paths in `folder`. The schema must judge it alike.
fn read_in(folder: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let variable = |name: &str| match name {
        "OPENAI_API_KEY" => Some(OsString::from(UPSTREAM_KEY)),
        "CREDENTIALS_DIRECTORY" => Some(folder.as_os_str().to_owned()),
        "HTTPS_PROXY" => Some("proxy.internal:3128/".into()),
        "NO_PROXY" => Some("localhost, .Internal".into()),
        _ => None,
    };
    let read = parse(text, &Env::new(folder, &variable));
    schema_agrees::assert_agrees(text, &read);
    read
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    read_in(Path::new("/nonexistent"), text)
}

fn sound(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// The one problem of a text, as `path: message (help)`.
fn one_problem(text: &str) -> String {
    match read(text).expect_err(text).as_slice() {
        [one] => format!("{}: {} ({})", one.path, one.message, one.help),
        several => panic!("{several:#?}"),
    }
}

/// [`SOUND`] with one piece of it in place of another.
fn with(from: &str, to: &str) -> String {
    assert!(SOUND.contains(from), "{from}");
    SOUND.replacen(from, to, 1)
}

/// A folder of one test's own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluicegate-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.0.join(name), content).expect(name);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}
