//! Metrics by the same protocol: the families of /metrics with their values.

use std::collections::BTreeMap;

use serde_json::Value;
use sluicegate::app::Ended;

use super::{Receiver, ask, exporting};
use crate::harness::{Gateway, simulator};

/// A member that protobuf's JSON writes as text because it has 64 bits.
fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_families_of_a_scrape_are_exported_with_their_values() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let gateway =
        Gateway::start(&exporting(&upstream.url(), &receiver.url, "traces = false\nmetrics = true"));
    for _ in 0..3 {
        let answer = ask(&gateway, &[]).await;
        gateway.log.line_of(&answer).await;
    }
    assert_eq!(gateway.stop().await, Ended::Drained);
    let received = receiver.next();
    assert_eq!(received.get("path"), "/v1/metrics");
    let metrics: BTreeMap<&str, &Value> = received
        .get("metrics")
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| (metric["name"].as_str().unwrap(), metric))
        .collect();
    let requests = &metrics["sluicegate_requests"]["sum"];
    assert_eq!(
        (&requests["aggregationTemporality"], &requests["isMonotonic"]),
        (&"AGGREGATION_TEMPORALITY_CUMULATIVE".into(), &true.into())
    );
    assert_eq!(requests["dataPoints"][0]["asDouble"], 3.0);
    let attributes = requests["dataPoints"][0]["attributes"].as_array().unwrap();
    assert!(
        attributes.iter().any(|label| label["key"] == "route" && label["value"]["stringValue"] == "main"),
        "{requests}"
    );
    let durations = metrics["sluicegate_request_duration_seconds"];
    assert_eq!(durations["unit"], "s");
    let point = &durations["histogram"]["dataPoints"][0];
    let buckets = point["bucketCounts"].as_array().unwrap();
    assert_eq!(number(&point["count"]), 3);
    assert_eq!(buckets.iter().map(number).sum::<u64>(), 3);
    assert_eq!(buckets.len(), point["explicitBounds"].as_array().unwrap().len() + 1);
    assert_eq!(metrics["sluicegate_requests_in_flight"]["gauge"]["dataPoints"][0]["asDouble"], 0.0);
}
