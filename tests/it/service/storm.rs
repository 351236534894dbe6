//! Callers who keep coming, whatever happens to the gateway.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::harness::{CHAT, CLIENT_KEY, SAFETY};

/// Threads that connect, ask and read, again and again, each time on a new connection.
pub struct Storm {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<io::Result<()>>>,
}

impl Storm {
    /// Begins; a caller who is refused a connection goes home if `until_refused`, and otherwise fails.
    pub fn new(address: SocketAddr, callers: usize, until_refused: bool) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let caller = || {
            let (stop, asked) = (stop.clone(), asked.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match TcpStream::connect(address) {
                        Ok(stream) => ask(stream)?,
                        Err(error) if until_refused && error.kind() == io::ErrorKind::ConnectionRefused => {
                            break;
                        }
                        Err(error) => return Err(error),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let callers = (0..callers).map(|_| caller()).collect();
        Self { stop, asked, callers }
    }

    /// Waits until so many more have been answered.
    pub fn wait_for(&self, more: usize) {
        let until = self.asked.load(Ordering::Relaxed) + more;
        let began = std::time::Instant::now();
        while self.asked.load(Ordering::Relaxed) < until {
            assert!(began.elapsed() < SAFETY, "nobody is answered any more");
            assert!(!self.callers.iter().all(JoinHandle::is_finished), "all have gone home");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until all have gone home: how many answers they had. None may have failed.
    pub fn over(self) -> usize {
        for caller in self.callers {
            caller.join().unwrap().unwrap();
        }
        self.asked.load(Ordering::Relaxed)
    }

    /// Sends all home.
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.over()
    }
}

/// Whoever is connected must be answered, and wholly.
fn ask(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SAFETY))?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
         content-type: application/json\r\nx-simulate: frames=3; interval=0\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let whole = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n");
    if whole { Ok(()) } else { Err(io::Error::other(answer.into_owned())) }
}
