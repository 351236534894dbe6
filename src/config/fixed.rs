//! What of a configuration cannot change while the process runs, and how another configuration differs in it.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{
    declare::{Declared, Effect},
    schema::{Config, Log, Server},
};
use crate::key_digest::{KeyDigest, key_digest};

/// The settings that need a restart to change: addresses, and the keys of `[server]` and `[log]` that are declared so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Addresses of the listeners.
    pub listeners: BTreeSet<SocketAddr>,
    /// Address of the operator's listener.
    pub admin: Option<SocketAddr>,
    /// The other keys with their values, in the order of the file.
    settings: Vec<Setting>,
    /// The digest of `server.seal_key`, whose value is not shown.
    seal_key: Option<KeyDigest>,
}

/// A key, as `server.threads`, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    key: String,
    value: String,
}

#[cfg(test)]
impl Default for Fixed {
    fn default() -> Self {
        Self {
            listeners: BTreeSet::new(),
            admin: None,
            settings: settings(&Server::default(), &Log::default()),
            seal_key: None,
        }
    }
}

impl Fixed {
    /// Of this configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            listeners: config.listeners.iter().map(|listener| listener.address).collect(),
            admin: config.admin.as_ref().map(|admin| admin.address),
            settings: settings(&config.server, &config.log),
            seal_key: config.server.seal_key.as_ref().map(|key| key_digest(key.expose().as_bytes())),
        }
    }

    /// What is different in `wanted`, each in a few words, in the order of the file.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let added = wanted.listeners.difference(&self.listeners);
        let removed = self.listeners.difference(&wanted.listeners);
        let mut differences: Vec<String> = added.map(|address| format!("listener {address} added")).collect();
        differences.extend(removed.map(|address| format!("listener {address} removed")));
        if self.admin != wanted.admin {
            let (now, then) = (address(self.admin), address(wanted.admin));
            differences.push(format!("admin.address from {now} to {then}"));
        }
        let pairs = self.settings.iter().zip(&wanted.settings);
        let changed = pairs.filter(|(now, then)| now != then);
        differences
            .extend(changed.map(|(now, then)| format!("{} from {} to {}", now.key, now.value, then.value)));
        let both_seal = self.seal_key.is_some() && wanted.seal_key.is_some();
        if both_seal && self.seal_key != wanted.seal_key {
            differences.push("server.seal_key changed".to_owned());
        }
        differences
    }
}

fn settings(server: &Server, log: &Log) -> Vec<Setting> {
    [of_table("server", server), of_table("log", log)].concat()
}

/// The keys of a table that need a restart.
fn of_table<T: Declared>(name: &str, table: &T) -> Vec<Setting> {
    let keys = T::keys();
    let fixed = |key: &str| keys.iter().any(|one| one.name == key && one.meta.effect == Effect::Restart);
    let settings = table.written().into_iter().filter(|(key, _)| fixed(key));
    settings
        .map(|(key, value)| Setting {
            key: format!("{name}.{key}"),
            value: value.trim_matches('"').to_owned(),
        })
        .collect()
}

fn address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "none".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::{super::LogFormat, *};

    fn fixed() -> Fixed {
        let server = Server { threads: 2, max_connections: 10, backlog: 20, ..Server::default() };
        let log = Log { format: LogFormat::Json, level: tracing::Level::INFO, ..Log::default() };
        Fixed {
            listeners: BTreeSet::from(["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]),
            admin: None,
            settings: settings(&server, &log),
            seal_key: Some([1; 32]),
        }
    }

    #[test]
    fn nothing_differs_from_itself() {
        assert_eq!(fixed().differences(&fixed()), Vec::<String>::new());
    }

    #[test]
    fn what_takes_effect_without_a_restart_is_no_difference() {
        let settings = |server: Server| settings(&server, &Log::default());
        let other = Server { linger: std::time::Duration::from_secs(1), max_headers: 7, ..Server::default() };
        assert_eq!(settings(other), settings(Server::default()));
    }

    #[test]
    fn every_difference_is_named() {
        let server = Server { threads: 3, max_connections: 11, backlog: 21, ..Server::default() };
        let log = Log { format: LogFormat::Text, level: tracing::Level::DEBUG, ..Log::default() };
        let wanted = Fixed {
            listeners: BTreeSet::from(["127.0.0.1:2".parse().unwrap(), "127.0.0.1:3".parse().unwrap()]),
            admin: Some("127.0.0.1:9".parse().unwrap()),
            settings: settings(&server, &log),
            seal_key: Some([2; 32]),
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
                "server.seal_key changed",
            ]
        );
    }
}
