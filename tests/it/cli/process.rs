//! Processes and their files.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Instant,
};

use crate::harness::{SAFETY, UPSTREAM_KEY};

pub const BINARY: &str = env!("CARGO_BIN_EXE_sluicegate");

/// What a process left behind.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs it to its end.
pub fn sluicegate(arguments: &[&str]) -> Done {
    command(BINARY).args(arguments).output().unwrap().into()
}

/// What a shell makes of a line.
pub fn shell(line: &str) -> Done {
    command("sh").args(["-c", line]).output().unwrap().into()
}

/// Without what the one who runs the tests may have set.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let proxies = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"];
    proxies.iter().chain(&["OPENAI_API_KEY"]).for_each(|name| _ = command.env_remove(name));
    command.env("UPSTREAM_KEY", UPSTREAM_KEY).stdin(Stdio::null());
    command
}

/// A process that runs until it is told to end, or dropped.
pub struct Running {
    child: Child,
    /// Of stdout; closed at its end.
    lines: mpsc::Receiver<String>,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        Self::of(command(BINARY).args(arguments))
    }

    /// The same of another command.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Self { child, lines }
    }

    /// The next line that is as wanted; those before it are passed over.
    pub fn line(&mut self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let until = Instant::now() + SAFETY;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no such line: {error}"));
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Its first listener, as its log tells it.
    pub fn address(&mut self) -> SocketAddr {
        self.addresses().0[0]
    }

    /// Its listeners and its operator's, as its log tells them.
    pub fn addresses(&mut self) -> (Vec<SocketAddr>, Option<SocketAddr>) {
        let line = self.line(|line| line.contains("\"message\":\"serving\""));
        listening(&line)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        assert_eq!(shell(&format!("kill -{name} {}", self.child.id())).code, Some(0));
    }

    /// Bytes of it that are in memory (proc(5), `statm`; pages of 4 KiB or more).
    pub fn resident(&self) -> usize {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits for its end: the exit code, and what it printed since it was last asked.
    pub fn ended(&mut self) -> (Option<i32>, Vec<String>) {
        let mut rest = Vec::new();
        let until = Instant::now() + SAFETY;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {rest:#?}"),
            }
        }
        (self.child.wait().unwrap().code(), rest)
    }
}

/// What the line "serving" tells: its listeners, and its operator's.
pub fn listening(line: &str) -> (Vec<SocketAddr>, Option<SocketAddr>) {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let listeners = line["addresses"].as_str().unwrap().trim_matches(['[', ']']).split(", ");
    let admin = line["admin"].as_str().map(|address| address.parse().unwrap());
    (listeners.map(|address| address.parse().unwrap()).collect(), admin)
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
