//! Real Redis servers, each on a free port and in a folder of its own, which end with the test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    folder: PathBuf,
    settings: Vec<String>,
    /// The password of the default user, where it has one.
    password: Option<String>,
}

/// What a server replied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Number(i64),
    Bytes(Option<Vec<u8>>),
    List(Vec<Self>),
}

/// A client that waits for each reply.
#[derive(Debug)]
pub(crate) struct RedisClient(BufReader<TcpStream>);

impl RedisServer {
    /// Starts a server without persistence, with more `settings` as on its command line.
    pub(crate) fn start(settings: &[&str]) -> Self {
        // Another process may take a port that was free, or that of the cluster's bus, before the server does.
        (0..5)
            .find_map(|_| Self::try_at(free_port(), settings))
            .expect("redis-server starts at one of five ports")
    }

    /// Starts a server at a port.
    pub(crate) fn start_at(port: u16, settings: &[&str]) -> Self {
        Self::try_at(port, settings).unwrap_or_else(|| panic!("redis-server did not start on port {port}"))
    }

    /// The server, unless it exits at once.
    fn try_at(port: u16, settings: &[&str]) -> Option<Self> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let folder = folder();
        let child = spawn(port, &folder, &settings);
        let mut server = Self { child, port, folder, settings, password: None };
        server.comes_up().then_some(server)
    }

    /// Starts a Sentinel that watches the master `main` at a port, with two others.
    pub(crate) fn sentinel(master: u16) -> Self {
        Self::sentinel_with(master, "", None)
    }

    /// The same with more lines in its configuration. The default user has the password, if there is one.
    pub(crate) fn sentinel_with(master: u16, more: &str, password: Option<&str>) -> Self {
        (0..5)
            .find_map(|_| Self::try_sentinel(master, more, password))
            .expect("a Sentinel starts at one of five ports")
    }

    fn try_sentinel(master: u16, more: &str, password: Option<&str>) -> Option<Self> {
        let (port, folder) = (free_port(), folder());
        let file = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\n{more}\nsentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 700\nsentinel failover-timeout main 3000\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = quiet(Command::new("redis-server").arg(&file).arg("--sentinel"));
        let password = password.map(str::to_owned);
        let mut server = Self { child, port, folder, settings: Vec::new(), password };
        server.comes_up().then_some(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The value of `redis.url`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends a command and waits for the reply.
    pub(crate) fn command(&self, arguments: &[&str]) -> Reply {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        self.client().command(&arguments)
    }

    /// A connection of the test's own.
    pub(crate) fn client(&self) -> RedisClient {
        let mut client = RedisClient::connect(self.port).expect("the server accepts connections");
        self.authenticate(&mut client);
        client
    }

    /// Kills the server, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts a killed server again, without its data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.folder, &self.settings);
        assert!(self.comes_up(), "redis-server did not start on port {} again", self.port);
    }

    /// Sends the process a signal: "STOP", "CONT".
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Whether this server replies, and none that has taken the port before.
    fn replies(&self) -> bool {
        let Ok(mut client) = RedisClient::connect(self.port) else { return false };
        self.authenticate(&mut client);
        match client.command(&[b"INFO", b"server"]) {
            Reply::Bytes(Some(info)) => {
                let own = format!("process_id:{}\r\n", self.child.id());
                String::from_utf8_lossy(&info).contains(&own)
            }
            _ => false,
        }
    }

    fn authenticate(&self, client: &mut RedisClient) {
        if let Some(password) = &self.password {
            client.command(&[b"AUTH", password.as_bytes()]);
        }
    }

    /// Waits until the server replies; false if it exits before, or takes too long.
    fn comes_up(&mut self) -> bool {
        let end = Instant::now() + START;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            if self.replies() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl RedisClient {
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn command(&mut self, arguments: &[&[u8]]) -> Reply {
        self.send(arguments);
        self.reply()
    }

    pub(crate) fn send(&mut self, arguments: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        let _ = self.0.get_mut().write_all(&bytes);
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let mut line = String::new();
        if self.0.read_line(&mut line).is_err() || line.is_empty() {
            return Reply::Error("the connection is closed".to_owned());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().unwrap_or(-1);
        match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()),
            "$" if number() < 0 => Reply::Bytes(None),
            "$" => {
                let mut bytes = vec![0; usize::try_from(number()).unwrap() + 2];
                self.0.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(Some(bytes))
            }
            _ => Reply::List((0..number().max(0)).map(|_| self.reply()).collect()),
        }
    }
}

impl Reply {
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Error(text) => text.clone(),
            Self::Bytes(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        }
    }
}

/// Sends a process a signal.
pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {process}");
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, folder: &PathBuf, settings: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    quiet(command.arg("--dir").arg(folder).args(settings))
}

fn quiet(command: &mut Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed: tests/setup")
}

fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("sluicegate-redis-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
