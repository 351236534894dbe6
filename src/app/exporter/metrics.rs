//! Exports what `/metrics` says, every minute. The values are cumulative, so an export that fails is made up for by the next.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use super::{health::Health, send::Sender, stop};
use crate::{
    admin,
    listen::Listening,
    proxy::Gateway,
    telemetry::trace::{Pace, Period, Receipt, encode_metrics},
};

/// Time between two exports (the specification's default).
const EVERY: Duration = Duration::from_secs(60);

/// What metrics are read from.
#[derive(Clone)]
pub(super) struct MetricsSource {
    pub(super) gateway: Arc<Gateway>,
    pub(super) scrape: admin::ScrapeSource,
}

impl MetricsSource {
    pub(super) fn new(gateway: &Arc<Gateway>, listening: &Listening) -> Self {
        Self { gateway: gateway.clone(), scrape: admin::ScrapeSource::new(gateway, listening) }
    }
}

/// The export of metrics to one collector.
pub(super) struct MetricsExport {
    sender: Sender,
    source: MetricsSource,
    pace: Pace,
    health: Health,
}

impl MetricsExport {
    pub(super) fn new(sender: Sender, source: MetricsSource) -> Self {
        let url = sender.collector().metrics.as_ref().map(|endpoint| endpoint.url.to_string());
        let health = Health::new("metrics", url.unwrap_or_default());
        Self { sender, source, pace: Pace::default(), health }
    }

    /// Exports until `stopped`, and once more at the end.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        if self.sender.collector().metrics.is_none() {
            return;
        }
        loop {
            let is_last = tokio::select! {
                // A collector that has asked for more time gets it.
                () = sleep(EVERY.max(self.pace.wait(Instant::now()))) => false,
                () = stop(&mut stopped) => true,
            };
            self.export().await;
            if is_last {
                return;
            }
        }
    }

    async fn export(&mut self) {
        let Some(text) = self.source.scrape.text().await else { return };
        let period = Period { start: self.source.gateway.started, end: SystemTime::now() };
        let made = tokio::task::spawn_blocking(move || encode_metrics(&text, period).0);
        let (Ok(metrics), Some(endpoint)) = (made.await, &self.sender.collector().metrics) else { return };
        let sent = self.sender.send(endpoint, &self.sender.payload(&metrics)).await;
        match sent.receipt {
            Receipt::Taken { .. } => self.pace.taken(),
            Receipt::Later(named) => self.pace.failed(named, Instant::now()),
            Receipt::Refused => {}
        }
        self.health.judge(&sent);
    }
}
