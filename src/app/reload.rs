//! Hot reload: a thread of its own reads the configuration when it may have changed, compiles it, and swaps it in.
//!
//! A broken file changes nothing. It is told of in the log, counted, and shown by `/status` with every problem, until a sound one
//! has taken its place.

use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use super::Service;
use crate::{
    config::{Config, ConfigWatch, Problem, Problems, Reading, ReloadReason, ReloadTrigger, Source},
    proxy::Gateway,
};

/// Readings in a row, until what is read leads nowhere that is not watched yet.
const READINGS: usize = 4;

/// The thread that follows the configuration's files; dropping it ends it.
#[derive(Debug)]
pub(super) struct Reloading {
    trigger: Option<ReloadTrigger>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's own things.
struct Follower {
    source: Source,
    gateway: Arc<Gateway>,
    service: Service,
    watch: ConfigWatch,
    /// What the last reading found, sound or not.
    digest: Vec<u8>,
}

impl Reloading {
    /// Follows `source`, which was last read as `digest` says.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        source: Source,
        digest: Vec<u8>,
        gateway: Arc<Gateway>,
        service: Service,
    ) -> io::Result<Self> {
        let (watch, trigger) = ConfigWatch::new();
        let follower = Follower { source, gateway, service, watch, digest };
        let thread = Builder::new().name("reload".into()).spawn(move || follower.run())?;
        Ok(Self { trigger: Some(trigger), thread: Some(thread) })
    }

    /// Has the files read again, changed or not.
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
        // It may have changed since it was read for the start, when nobody was watching.
        self.reload_if_changed(ReloadReason::Changed);
        while let Some(reason) = self.watch.wait() {
            self.reload_if_changed(reason);
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

    /// Reads until everything that was read was watched before.
    fn read(&mut self) -> Reading {
        let mut reading = self.source.read();
        for _ in 1..READINGS {
            if !self.watch.follow(&reading.files) {
                break;
            }
            reading = self.source.read();
        }
        reading
    }

    /// Whether the configuration was taken; otherwise the one before stays.
    fn apply(&self, config: Config) -> bool {
        warn(&config.warnings);
        match self.gateway.replace(config) {
            Ok(snapshot) => {
                tracing::info!(generation = snapshot.generation, "configuration reloaded");
                for difference in &snapshot.awaits_restart {
                    tracing::warn!("configuration change needs a restart: {difference}");
                }
                true
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "configuration not reloaded; the previous one stays in effect");
                false
            }
        }
    }

    fn refuse(&self, problems: &Problems) -> bool {
        for problem in &problems.problems {
            let Problem { path, line, message, help, .. } = problem;
            tracing::error!(%path, line, %help, "configuration not reloaded; the previous one stays in effect: {message}");
        }
        self.gateway.refuse(problems);
        false
    }
}

/// Tells the log what is sound but worth knowing.
pub(super) fn warn(warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!(path = %warning.path, line = warning.line, "{}", warning.message);
    }
}
