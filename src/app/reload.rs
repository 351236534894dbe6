//! Hot reload: a dedicated thread reads the configuration when it may have changed, compiles it, and swaps it in.
//!
//! An invalid file changes nothing. Its problems are logged, counted, and listed by `/status` until a valid file has replaced it.

use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use super::{Service, clients::FileClients};
use crate::{
    config::{
        ClientEvents, Config, ConfigWatch, Problem, Problems, Reading, ReloadReason, ReloadTrigger, Source,
    },
    proxy::Gateway,
};

/// Consecutive reads until every file that was read is watched.
const READINGS: usize = 4;

/// The thread that follows the configuration's files. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Reloading {
    trigger: Option<ReloadTrigger>,
    thread: Option<JoinHandle<()>>,
}

/// What is followed, as it was read last.
pub(super) struct Followed {
    pub(super) source: Source,
    /// The digest of the last read.
    pub(super) digest: Vec<u8>,
    /// The clients' files.
    pub(super) clients: FileClients,
}

/// The state of the thread.
struct Follower {
    source: Source,
    gateway: Arc<Gateway>,
    service: Service,
    watch: ConfigWatch,
    /// The digest of the last read, valid or not.
    digest: Vec<u8>,
    clients: FileClients,
}

impl Reloading {
    /// Follows the files of a gateway.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(followed: Followed, gateway: Arc<Gateway>, service: Service) -> io::Result<Self> {
        let (watch, trigger) = ConfigWatch::new();
        let Followed { source, digest, clients } = followed;
        let follower = Follower { source, gateway, service, watch, digest, clients };
        let thread = Builder::new().name("reload".into()).spawn(move || follower.run())?;
        Ok(Self { trigger: Some(trigger), thread: Some(thread) })
    }

    /// Requests a reload, whether or not files changed.
    pub(super) fn request(&self) {
        if let Some(trigger) = &self.trigger {
            trigger.trigger();
        }
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.trigger = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Follower {
    fn run(mut self) {
        // The files may have changed between the read at the start and the first watch.
        self.reload_if_changed(ReloadReason::Changed);
        self.follow_clients(ClientEvents { any: true, ..ClientEvents::default() });
        while let Some(reason) = self.watch.wait() {
            if reason != ReloadReason::Clients {
                self.reload_if_changed(reason);
            }
            let mut events = self.watch.client_events();
            events.any |= reason == ReloadReason::Asked;
            self.follow_clients(events);
        }
    }

    /// Reads the files of clients that have changed, and no others.
    fn follow_clients(&mut self, events: ClientEvents) {
        if events != ClientEvents::default() {
            self.clients.follow(events, &self.gateway);
        }
    }

    fn reload_if_changed(&mut self, reason: ReloadReason) {
        let Reading { config, digest, .. } = self.read();
        if reason == ReloadReason::Changed && digest == self.digest {
            return;
        }
        self.digest = digest;
        self.service.reloading();
        let taken = match config {
            Ok(config) => self.apply(config),
            Err(problems) => self.refuse(&problems),
        };
        let generation = self.gateway.live.load().generation;
        if taken { self.service.ready(generation) } else { self.service.refused(generation) }
    }

    /// Reads until every file that was read was watched before the read.
    fn read(&mut self) -> Reading {
        let mut reading = self.source.read();
        for _ in 1..READINGS {
            if let Ok(config) = &reading.config {
                self.watch.follow_clients(config.client_files.as_deref());
            }
            if !self.watch.follow(&reading.files) {
                break;
            }
            reading = self.source.read();
        }
        reading
    }

    /// Applies the configuration and returns whether it was taken; otherwise the previous one stays in effect.
    fn apply(&mut self, config: Config) -> bool {
        warn(&config.warnings);
        let changes = self.clients.under(&config, &self.gateway.live.load());
        match self.gateway.replace_with(config, changes) {
            Ok((snapshot, conflicts)) => {
                self.clients.refuse(conflicts);
                self.clients.report(&self.gateway);
                tracing::info!(generation = snapshot.generation, "configuration reloaded");
                for difference in &snapshot.awaits_restart {
                    tracing::warn!("configuration change needs a restart: {difference}");
                }
                true
            }
            Err(error) => {
                self.clients.refused();
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "configuration not reloaded; the previous one stays in effect");
                false
            }
        }
    }

    fn refuse(&self, problems: &Problems) -> bool {
        for problem in &problems.problems {
            let Problem { path, line, message, help, .. } = problem;
            let path = (!path.is_empty()).then_some(path.as_str());
            let line = (*line > 0).then_some(*line);
            let file = problems.file.display();
            tracing::error!(%file, path, line, %help, "configuration not reloaded; the previous one stays in effect: {message}");
        }
        self.gateway.refuse(problems);
        false
    }
}

/// Logs the warnings of a valid configuration.
pub(super) fn warn(warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!(path = %warning.path, line = warning.line, "{}", warning.message);
    }
}
