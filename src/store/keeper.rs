//! The store's thread: makes a connection, watches it, and makes the next one.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Published, ScriptCall, State, Trouble,
    breaker::Session,
    connection::{Connected, Connection},
    sentinel,
};
use crate::config::{Redis, RedisServers};

/// The time from the beginning of an attempt to the next one: at least the first, and up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1_000));

/// The least time between the end of an attempt and the next one.
const LEAST: Duration = Duration::from_millis(100);

/// Keeps a connection.
pub(super) struct Keeper {
    settings: Redis,
    probe: ScriptCall,
    /// Further calls that each connection has to execute.
    more: Vec<ScriptCall>,
    link: Arc<Published>,
}

impl Keeper {
    pub(super) fn new(
        settings: Redis,
        probe: ScriptCall,
        more: Vec<ScriptCall>,
        link: Arc<Published>,
    ) -> Self {
        Self { settings, probe, more, link }
    }

    /// Runs for as long as the store is there. One line in the log for each change: not for each attempt.
    pub(super) async fn run(self) -> Infallible {
        let mut number = 0;
        let mut since: Option<Instant> = None;
        loop {
            let mut begun = Instant::now();
            match self.connect(number + 1).await {
                Ok(session) => {
                    number += 1;
                    let away = since.take().map(|since| since.elapsed());
                    tracing::info!(away = ?away, "Redis available: limits are shared");
                    let trouble = self.watch(&session).await;
                    self.lost(&mut since, &trouble);
                    begun = Instant::now();
                }
                Err(trouble) => self.lost(&mut since, &trouble),
            }
            // An attempt that has waited for a silent server is a part of the pause.
            let pause = PAUSE.0 + (PAUSE.1 - PAUSE.0).mul_f64(fastrand::f64());
            sleep_until((begun + pause).max(Instant::now() + LEAST)).await;
        }
    }

    /// Connects, probes, and publishes the connection.
    async fn connect(&self, number: u32) -> Result<Arc<Session>, Trouble> {
        let Connected { mut connection, server, broken } = Connection::open(&self.settings).await?;
        self.link.statistics.connected();
        // The first run may have to load the script; only the second shows how long a call takes.
        run(&self.probe, &mut connection, super::connection::CONNECT).await?;
        self.run_more(&mut connection).await?;
        let probe = run(&self.probe, &mut connection, self.link.timeout).await?;
        let session = Session::new(number, connection, &self.link);
        let ending = Arc::downgrade(&session);
        tokio::spawn(async move {
            broken.notified().await;
            if let Some(session) = ending.upgrade() {
                session.end(Trouble::Connection("the server closed the connection".to_owned()));
            }
        });
        let state = State { session: Some(number), server, probe: probe.into(), trouble: None };
        self.link.publish(Some(session.clone()), state);
        Ok(session)
    }

    /// Runs the further calls. What a script says that has no key, and so nothing to do, is not asked: the server knows it now.
    async fn run_more(&self, connection: &mut Connection) -> Result<(), Trouble> {
        for call in &self.more {
            match timeout(super::connection::CONNECT, call.run(connection)).await {
                Ok(Err(error)) if !call.keys.is_empty() || Trouble::is_of_server(&error) => {
                    return Err(Trouble::of(&error));
                }
                Ok(_) => {}
                Err(_) => return Err(Trouble::Slow),
            }
        }
        Ok(())
    }

    /// Waits for the end of a session.
    async fn watch(&self, session: &Session) -> Trouble {
        let RedisServers::Sentinel(sentinels) = &self.settings.servers else { return session.ended().await };
        tokio::select! {
            trouble = session.ended() => trouble,
            () = sentinel::switched(sentinels, self.settings.tls.as_ref()) => {
                session.end(Trouble::Switched);
                Trouble::Switched
            }
        }
    }

    fn lost(&self, since: &mut Option<Instant>, trouble: &Trouble) {
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::warn!(reason = %trouble, "Redis unavailable: this gateway counts by itself, up to its share of each limit");
        }
        self.link.publish(None, State { trouble: Some(trouble.clone()), ..State::default() });
    }
}

async fn run(call: &ScriptCall, connection: &mut Connection, most: Duration) -> Result<Vec<u8>, Trouble> {
    match timeout(most, call.run(connection)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(Trouble::of(&error)),
        Err(_) => Err(Trouble::Slow),
    }
}
