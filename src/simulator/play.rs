//! Plays a script.

use std::{collections::VecDeque, future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    ending::{Cut, Ended},
    events::Events,
    script::{Mark, MarkAction, Script, Step},
    wire::Wire,
};

/// A script that is being played.
struct Player<'a, W> {
    wire: &'a mut W,
    marks: VecDeque<Mark>,
    split: usize,
    trailers: Option<HeaderMap>,
    sent: u64,
}

/// The result of a played script.
pub(super) struct Played {
    pub(super) ended: Ended,
    /// Bytes of the response body that were sent.
    pub(super) sent: u64,
}

/// Plays a script to its end.
pub(super) async fn play<W: Wire>(wire: &mut W, script: Script) -> Played {
    let Script { steps, marks, split, .. } = script;
    let mut player = Player { wire, marks: marks.into(), split, trailers: None, sent: 0 };
    let ended = match player.all(steps).await {
        Ok(()) => Ended::Answered,
        Err(ended) => ended,
    };
    Played { ended, sent: player.sent }
}

impl<W: Wire> Player<'_, W> {
    async fn all(&mut self, steps: Vec<Step>) -> Result<(), Ended> {
        for step in steps {
            self.step(step).await?;
        }
        self.wire.end(self.trailers.take()).await
    }

    async fn step(&mut self, step: Step) -> Result<(), Ended> {
        match step {
            Step::ReadBody(up_to) => self.wire.read_body(up_to).await,
            Step::Informational(status, headers) => self.wire.informational(status, &headers).await,
            Step::Head(head) => self.wire.head(&head).await,
            Step::Send(bytes) => self.send(bytes).await,
            Step::Events(events) => self.events(*events).await,
            Step::Wait(span) => self.wait(sleep(span)).await,
            Step::Gate(gate) => self.wait(gate.wait()).await,
            Step::Raw(bytes) => self.wire.raw(bytes).await,
            Step::Stall => self.wait(std::future::pending()).await,
            Step::Cut(cut) => self.cut(cut).await,
            Step::Trailers(trailers) => {
                self.trailers = Some(trailers);
                Ok(())
            }
        }
    }

    /// Sends body bytes, and runs the action of each mark at its position.
    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Ended> {
        loop {
            while self.marks.front().is_some_and(|mark| mark.at <= self.sent) {
                match self.marks.pop_front().map(|mark| mark.action) {
                    Some(MarkAction::Gate(gate)) => self.wait(gate.wait()).await?,
                    Some(MarkAction::Stall) => self.wait(std::future::pending()).await?,
                    Some(MarkAction::Cut(cut)) => self.cut(cut).await?,
                    None => {}
                }
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let piece = bytes.split_to(self.next_write(bytes.len()));
            let length = piece.len() as u64;
            self.wire.send(piece).await?;
            self.sent += length;
        }
    }

    /// How many of `wanted` bytes may be sent in one write.
    fn next_write(&self, wanted: usize) -> usize {
        let to_mark = self.marks.front().map_or(u64::MAX, |mark| mark.at - self.sent);
        let room = usize::try_from(to_mark).unwrap_or(usize::MAX).min(wanted);
        if self.split == 0 { room } else { room.min(self.split) }
    }

    /// Sends each batch of frames when it is due, measured from the first batch, so that delays do not add up.
    async fn events(&mut self, mut events: Events) -> Result<(), Ended> {
        let mut buffer = BytesMut::with_capacity(8 * 1024);
        events.opening(&mut buffer);
        self.send(buffer.split().freeze()).await?;
        let (interval, batch, frames) = (events.interval, events.batch(), events.frames());
        let (mut index, mut due) = (0, Instant::now());
        while index < frames {
            if index > 0 && interval > Duration::ZERO {
                due += interval;
                self.wait(sleep_until(due)).await?;
            }
            let end = index.saturating_add(batch).min(frames);
            // A batch is one write, of at most about this many bytes.
            while index < end && buffer.len() < 256 * 1024 {
                events.frame(index, &mut buffer);
                index += 1;
            }
            self.send(buffer.split().freeze()).await?;
        }
        events.closing(&mut buffer);
        self.send(buffer.freeze()).await
    }

    async fn cut(&mut self, cut: Cut) -> Result<(), Ended> {
        self.wire.flush().await?;
        Err(self.wire.cut(cut).await)
    }

    /// Waits for `what`, or until the client leaves.
    async fn wait(&mut self, what: impl Future<Output = ()>) -> Result<(), Ended> {
        self.wire.flush().await?;
        tokio::select! {
            biased;
            ended = self.wire.peer_gone() => Err(ended),
            () = what => Ok(()),
        }
    }
}
