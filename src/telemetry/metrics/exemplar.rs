//! Exemplars: the trace of one request for each bucket of a histogram (OpenMetrics 1.0, section "Exemplars").

use std::time::{Duration, SystemTime};

use super::scale::{MOST_BOUNDS, Scale};

/// The trace of a counted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace id, 32 hexadecimal digits.
    pub trace: [u8; 32],
    /// The value that was counted.
    pub span: Duration,
    /// When it was counted.
    pub at: SystemTime,
}

/// The last exemplar of each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exemplars([Option<Exemplar>; MOST_BOUNDS + 1]);

impl Exemplar {
    /// The trace id as text.
    pub fn trace(&self) -> &str {
        std::str::from_utf8(&self.trace).unwrap_or_default()
    }

    /// When it was counted, in seconds since 1970.
    pub fn timestamp(&self) -> f64 {
        self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

impl Exemplars {
    /// Keeps `exemplar` as the last one of its bucket.
    pub fn keep(&mut self, scale: Scale, exemplar: Exemplar) {
        if let Some(last) = self.0.get_mut(scale.bucket(exemplar.span)) {
            *last = Some(exemplar);
        }
    }

    /// The last exemplar of that bucket.
    pub fn of_bucket(&self, bucket: usize) -> Option<&Exemplar> {
        self.0.get(bucket)?.as_ref()
    }

    /// Takes over the exemplars of `other` that are later.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            if other.map(|one| one.at) > own.map(|one| one.at) {
                *own = *other;
            }
        }
    }
}
