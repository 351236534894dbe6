//! Traces: the spans of finished exchanges, chosen, encoded, and queued for export by the OpenTelemetry protocol.
//!
//! Everything happens at the end of an exchange, on its worker: [`Tracer::keeps`] decides whether it is exported, [`Tracer::export`] encodes its spans
//! into one piece of bytes and puts it into the bounded [`SpanQueue`]. The exporter takes them out in batches and learns from [`Receipt`] what a
//! collector's response means. Nothing here does I/O, and no span holds content of a request or a response.

mod counts;
mod metrics;
mod names;
mod preset;
mod proto;
mod queue;
mod rates;
mod resource;
mod response;
mod sampling;
mod schedule;
mod span;
mod view;

use std::{cell::RefCell, collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use fnv::FnvHasher;

use crate::config::{self, Preset};

pub use counts::{DropReason, SpanCounts};
pub use metrics::{Period, encode_metrics};
use names::Names;
pub use preset::headers as preset_headers;
pub use queue::{Batch, SpanQueue};
pub use resource::Envelope;
pub use response::Receipt;
use sampling::Sampling;
pub use sampling::{Chance, Mishap};
pub use schedule::Pace;
pub use view::{AttemptView, Target, TraceView};

/// Chooses and encodes the spans of exchanges, as one configuration says.
#[derive(Debug)]
pub struct Tracer {
    sampling: Sampling,
    style: Style,
    known: Known,
    queue: Arc<SpanQueue>,
}

/// What spans say of routes and targets. The keys are the configuration's own texts, so the hash need not resist attacks.
#[derive(Debug, Default)]
pub struct Known {
    /// Paths of routes, by name.
    pub routes: ByText<Box<str>>,
    /// Targets, by base URL.
    pub targets: ByText<Target>,
}

type ByText<V> = HashMap<Arc<str>, V, BuildHasherDefault<FnvHasher>>;

/// How spans are written.
#[derive(Debug, Clone, Copy)]
struct Style {
    names: &'static Names,
    preset: Option<Preset>,
}

impl Tracer {
    /// A tracer that puts spans into `queue`.
    pub fn new(otlp: &config::Otlp, known: Known, queue: Arc<SpanQueue>) -> Self {
        Self {
            sampling: Sampling::new(otlp.sample, otlp.slow),
            style: Style { names: Names::of(otlp.semconv), preset: otlp.preset },
            known,
            queue,
        }
    }

    /// The path of a route.
    pub fn route_path(&self, route: &str) -> Option<&str> {
        self.known.routes.get(route).map(|path| &**path)
    }

    /// A target by its base URL.
    pub fn target(&self, url: &str) -> Option<&Target> {
        self.known.targets.get(url)
    }

    /// Whether the exchange is exported.
    pub fn keeps(&self, chance: &Chance<'_>) -> bool {
        self.sampling.keeps(chance, &self.queue)
    }

    /// Encodes the spans of the exchange and its attempts, and queues them. Returns whether there was room; without, they are dropped and counted.
    pub fn export<'a>(&self, view: &TraceView<'a>, attempts: impl Iterator<Item = AttemptView<'a>>) -> bool {
        thread_local! {
            static BUFFERS: RefCell<span::Buffers> = RefCell::default();
        }
        BUFFERS.with_borrow_mut(|buffers| {
            let spans = span::write(self.style, view, attempts, buffers);
            self.queue.push(buffers.spans(), spans)
        })
    }
}
