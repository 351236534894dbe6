//! Debian's Chromium without a window. It needs no driver: the page tells the test what it has seen.

use std::{
    fs::{self, File},
    io::ErrorKind,
    process::{Child, Command, Stdio},
};

use crate::folder::Folder;

/// Nothing but the test is asked for anything.
const QUIET: [&str; 9] = [
    "--headless=new",
    // It refuses to run as root, and in many containers, with one.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.*",
];

/// A browser that shows one page. It ends when it is dropped.
pub struct Chromium {
    process: Child,
    /// Its profile, and what it has printed.
    folder: Folder,
}

impl Chromium {
    /// Opens the page at `url`. `trusted` is the digest of the one public key that is trusted without an authority.
    pub fn open(url: &str, trusted: &str) -> Self {
        let folder = Folder::new();
        let printed = File::create(folder.path("printed")).unwrap();
        let mut command = Command::new("chromium");
        command
            .args(QUIET)
            .arg(format!("--user-data-dir={}", folder.path("profile")))
            .arg(format!("--ignore-certificate-errors-spki-list={trusted}"))
            .args(["--enable-logging=stderr", url])
            .env("HOME", folder.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(printed);
        match command.spawn() {
            Ok(process) => Self { process, folder },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("chromium is missing: tests/setup installs what the tests need")
            }
            Err(error) => panic!("chromium does not start: {error}"),
        }
    }

    /// What it has printed, with the console of the page.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.folder.path("printed")).unwrap_or_default()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
