//! A service manager's socket (`NOTIFY_SOCKET`), and what came to it.

use std::os::unix::net::UnixDatagram;

use crate::{folder::Folder, harness::SAFETY};

/// The longest message that is told; a status is a short line.
const LONGEST: usize = 4096;

/// Where a service tells how it is.
pub struct Notices {
    socket: UnixDatagram,
    path: String,
}

impl Notices {
    pub fn new(folder: &Folder) -> Self {
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SAFETY)).unwrap();
        Self { socket, path }
    }

    /// For the service's environment.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The next message, its assignments line by line.
    pub fn next(&self) -> Vec<String> {
        let mut message = [0; LONGEST];
        let length = self.socket.recv(&mut message).expect("the service says nothing");
        String::from_utf8(message[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The next message but pings.
    pub fn next_but_pings(&self) -> Vec<String> {
        loop {
            let message = self.next();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }
}
