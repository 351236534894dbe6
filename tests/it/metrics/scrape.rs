//! `/metrics`, read.

use std::net::SocketAddr;

use crate::harness::{Http, request, send, whole};

/// One scrape.
pub struct Scrape {
    pub text: String,
    samples: Vec<(String, f64)>,
}

impl Scrape {
    /// Of the gateway whose operator's listener this is.
    pub async fn of(admin: SocketAddr, accept: &str) -> Self {
        let scrape = request(admin, Http::One, "GET", "/metrics").header("accept", accept).body(whole(""));
        let answer = send(admin, Http::One, scrape.unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = answer.text().to_owned();
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self { samples: samples.collect(), text }
    }

    /// The sum over all series of a sample's name that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is = |series: &str| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            own == name && labels.iter().all(|label| rest.contains(label))
        };
        self.samples.iter().filter(|(series, _)| is(series)).map(|(_, value)| value).sum()
    }
}
