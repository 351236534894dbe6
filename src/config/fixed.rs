//! What of a configuration is settled when the process starts, and what a new one would change of it.

use std::{collections::BTreeSet, net::SocketAddr};

use super::schema::{Config, LogFormat};

/// What cannot change while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Sockets that are listened on.
    pub listeners: BTreeSet<SocketAddr>,
    /// The operator's.
    pub admin: Option<SocketAddr>,
    threads: usize,
    max_connections: usize,
    backlog: u32,
    format: LogFormat,
    level: tracing::Level,
}

#[cfg(test)]
impl Default for Fixed {
    fn default() -> Self {
        let (server, log) = (super::Server::default(), super::Log::default());
        Self {
            listeners: BTreeSet::new(),
            admin: None,
            threads: server.threads,
            max_connections: server.max_connections,
            backlog: server.backlog,
            format: log.format,
            level: log.level,
        }
    }
}

impl Fixed {
    /// Of this configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            listeners: config.listeners.iter().map(|listener| listener.address).collect(),
            admin: config.admin.as_ref().map(|admin| admin.address),
            threads: config.server.threads,
            max_connections: config.server.max_connections,
            backlog: config.server.backlog,
            format: config.log.format,
            level: config.log.level,
        }
    }

    /// What `wanted` would have otherwise, each in a few words, in the order of the file.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let added = wanted.listeners.difference(&self.listeners);
        let removed = self.listeners.difference(&wanted.listeners);
        let mut differences: Vec<String> = added.map(|address| format!("listener {address} added")).collect();
        differences.extend(removed.map(|address| format!("listener {address} removed")));
        let admin = |admin: Option<SocketAddr>| {
            admin.map_or_else(|| "none".to_owned(), |address| address.to_string())
        };
        let rows = [
            ("admin.address", admin(self.admin), admin(wanted.admin)),
            ("server.threads", self.threads.to_string(), wanted.threads.to_string()),
            ("server.max_connections", self.max_connections.to_string(), wanted.max_connections.to_string()),
            ("server.backlog", self.backlog.to_string(), wanted.backlog.to_string()),
            ("log.format", format!("{:?}", self.format), format!("{:?}", wanted.format)),
            ("log.level", self.level.to_string(), wanted.level.to_string()),
        ];
        let changed = rows.into_iter().filter(|(_, now, then)| now != then);
        differences.extend(
            changed.map(|(key, now, then)| {
                format!("{key} from {} to {}", now.to_lowercase(), then.to_lowercase())
            }),
        );
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Fixed {
        Fixed {
            listeners: BTreeSet::from(["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]),
            admin: None,
            threads: 2,
            max_connections: 10,
            backlog: 20,
            format: LogFormat::Json,
            level: tracing::Level::INFO,
        }
    }

    #[test]
    fn nothing_differs_from_itself() {
        assert_eq!(fixed().differences(&fixed()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named() {
        let wanted = Fixed {
            listeners: BTreeSet::from(["127.0.0.1:2".parse().unwrap(), "127.0.0.1:3".parse().unwrap()]),
            admin: Some("127.0.0.1:9".parse().unwrap()),
            threads: 3,
            max_connections: 11,
            backlog: 21,
            format: LogFormat::Text,
            level: tracing::Level::DEBUG,
        };
        assert_eq!(
            fixed().differences(&wanted),
            [
                "listener 127.0.0.1:3 added",
                "listener 127.0.0.1:1 removed",
                "admin.address from none to 127.0.0.1:9",
                "server.threads from 2 to 3",
                "server.max_connections from 10 to 11",
                "server.backlog from 20 to 21",
                "log.format from json to text",
                "log.level from info to debug",
            ]
        );
    }
}
