//! Writes a line of state to the log every so often, if the configuration says so.

use std::{convert::Infallible, time::Instant};

use tokio::{sync::watch, time::sleep};

use crate::{
    listen::Workers,
    proxy::Gateway,
    telemetry::{metrics::request_counts::Counts, state_line::StateLine},
};

/// What had been counted when the last line was written.
struct Before {
    at: Instant,
    counted: StateLine,
}

impl Before {
    fn now(gateway: &Gateway, workers: &Workers) -> Self {
        Self { at: Instant::now(), counted: counted(gateway, workers) }
    }
}

/// Writes lines as `log.state` of the current configuration says. Never returns.
pub(super) async fn keep_writing(gateway: &Gateway, workers: &Workers) -> Infallible {
    let mut replaced = gateway.replaced.subscribe();
    loop {
        let Some(pause) = gateway.live.load().log.state else {
            // The sender is the gateway's own, so this waits for a reload.
            let _changed = replaced.changed().await;
            continue;
        };
        let before = Before::now(gateway, workers);
        tokio::select! {
            () = sleep(pause) => write(gateway, workers, &before),
            () = changed(&mut replaced, || gateway.live.load().log.state == Some(pause)) => {}
        }
    }
}

/// Waits until a reload has changed what is written. Others, as of a file of clients, leave the span as it is.
async fn changed(replaced: &mut watch::Receiver<()>, is_same: impl Fn() -> bool) {
    while is_same() {
        // The sender is the gateway's own.
        let _changed = replaced.changed().await;
    }
}

fn write(gateway: &Gateway, workers: &Workers, before: &Before) {
    let (now, then) = (counted(gateway, workers), before.counted);
    let line = StateLine {
        span: before.at.elapsed(),
        finished: now.finished.saturating_sub(then.finished),
        failed: now.failed.saturating_sub(then.failed),
        tokens_in: now.tokens_in.saturating_sub(then.tokens_in),
        tokens_out: now.tokens_out.saturating_sub(then.tokens_out),
        ..now
    };
    line.write(&gateway.access_log.queue, gateway.access_log.format);
}

/// What is open now, and what has been counted since the start.
fn counted(gateway: &Gateway, workers: &Workers) -> StateLine {
    let mut counts = Counts::default();
    gateway.all_metrics().iter().for_each(|worker| worker.add_to(&mut counts));
    let loads = workers.loads();
    StateLine {
        in_flight: loads.iter().map(|(exchanges, _)| exchanges).sum(),
        connections: loads.iter().map(|(_, connections)| connections).sum(),
        finished: counts.exchanges.values().sum(),
        failed: counts.failed(),
        tokens_in: counts.callers.values().map(|used| used.tokens.input).sum(),
        tokens_out: counts.callers.values().map(|used| used.tokens.output).sum(),
        buffered: gateway.buffered(),
        ..StateLine::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn only_a_change_of_what_is_written_ends_the_span() {
        let (sender, mut replaced) = watch::channel(());
        let is_same = Cell::new(true);
        let mut changed = pin!(changed(&mut replaced, || is_same.get()));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            sender.send_replace(());
            assert!(changed.as_mut().poll(&mut cx).is_pending());
        }
        is_same.set(false);
        sender.send_replace(());
        assert!(changed.as_mut().poll(&mut cx).is_ready());
    }
}
