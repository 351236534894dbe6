//! Drives one connection: messages of the client, the turn that is under way, and the longest time that a connection may last.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    api::Api,
    peer::{Peer, Received},
};
use crate::simulator::ending::Ended;

/// How long a connection may last, unless the client asks for less (OpenAI API reference, Realtime sessions; WebSocket mode of Responses).
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// One connection.
pub(super) struct Session<'p, A> {
    peer: &'p mut Peer,
    api: A,
    expires: Instant,
    /// When the next events of the turn are due.
    due: Option<Instant>,
}

impl<'p, A: Api> Session<'p, A> {
    pub(super) fn new(peer: &'p mut Peer, api: A, expires: Option<Duration>) -> Self {
        Self { peer, api, expires: Instant::now() + expires.unwrap_or(LONGEST), due: None }
    }

    /// Runs to the end of the connection.
    pub(super) async fn run(mut self) -> Ended {
        match self.all().await {
            Ok(ended) | Err(ended) => ended,
        }
    }

    async fn all(&mut self) -> Result<Ended, Ended> {
        let greeting = self.api.greeting();
        self.peer.send(&greeting).await?;
        loop {
            self.due = self.api.pace().map(|pace| self.due.unwrap_or_else(|| Instant::now() + pace));
            tokio::select! {
                received = self.peer.next() => if let Some(ended) = self.received(received).await? {
                    return Ok(ended);
                },
                () = sleep_until(self.due.unwrap_or(self.expires)), if self.due.is_some() => {
                    let events = self.api.step();
                    // Measured from when these were due, so that delays do not add up.
                    self.due = self.due.zip(self.api.pace()).map(|(due, pace)| due + pace);
                    self.peer.send(&events).await?;
                }
                () = sleep_until(self.expires) => return self.expire().await,
            }
        }
    }

    async fn received(&mut self, received: Received) -> Result<Option<Ended>, Ended> {
        match received {
            Received::Text(text) => {
                let events = self.api.message(&text);
                self.peer.send(&events).await?;
            }
            Received::Binary => {
                return self.close(1003, "Only text messages are understood.").await.map(Some);
            }
            Received::Ping(payload) => self.peer.pong(&payload).await?,
            Received::Close(code) => {
                self.peer.close(code, "").await?;
                self.peer.end().await;
                return Ok(Some(Ended::Answered));
            }
            Received::Violation(code) => return self.close(code, "").await.map(Some),
            Received::Gone(ended) => return Ok(Some(ended)),
        }
        Ok(None)
    }

    async fn expire(&mut self) -> Result<Ended, Ended> {
        let event = self.api.expired();
        self.peer.send(&[event]).await?;
        self.close(1001, "Your session hit the maximum duration of 60 minutes.").await
    }

    /// Closes the connection, and waits until the client has closed it too.
    async fn close(&mut self, code: u16, reason: &str) -> Result<Ended, Ended> {
        self.peer.close(code, reason).await?;
        loop {
            match self.peer.next().await {
                Received::Close(_) | Received::Violation(_) => break,
                Received::Gone(ended) => return Ok(ended),
                Received::Text(_) | Received::Binary | Received::Ping(_) => {}
            }
        }
        self.peer.end().await;
        Ok(Ended::Answered)
    }
}
