//! The wall clock may be stepped at any moment. It is read for what people read, and no timeout, rest or deadline hangs on it.

use super::program;

/// Where the wall clock is read, and for what.
const READERS: [(&str, &str); 22] = [
    ("access/callers.rs", "whether a client's keys have expired, which is a date of the operator's"),
    ("access/seal.rs", "when an ephemeral key ends, which is a date of the provider's"),
    ("accounts/mod.rs", "how old an entry is that outlives the process, in hours"),
    ("admin/status.rs", "how long ago the last reload was, against the time that was noted"),
    ("app/exporter/metrics.rs", "the time of exported metrics"),
    ("cli/cert.rs", "from when a development certificate is valid"),
    ("cli/check/client_files.rs", "whether keys have expired, for a warning"),
    ("cli/probe/reach.rs", "how many days a target's certificate is still valid"),
    ("config/certificate.rs", "whether a certificate holds now, for a warning"),
    (
        "config/client_files/file.rs",
        "whether a file was changed just now, by the clock of its time of change",
    ),
    ("config/expiry.rs", "whether a client's keys expire soon, for a warning"),
    ("exchange/record.rs", "the time on the access line"),
    ("limit/counter.rs", "the day or month of the calendar that a use belongs to"),
    ("proxy/attempts/wait.rs", "a wait that ends at a date, which is one of the wall clock's"),
    ("proxy/gateway.rs", "when the process started and when it was last reloaded, for the operator"),
    ("simulator/events.rs", "the time in a frame, which a load client compares with the same clock"),
    ("simulator/respond.rs", "`created` in the simulator's responses"),
    ("telemetry/messages.rs", "the time on a message"),
    ("telemetry/queue.rs", "the time on the line that tells of lost ones"),
    ("telemetry/state_line.rs", "the time on the line of state"),
    ("telemetry/trace/response.rs", "a `retry-after` that is a date"),
    ("upstream/tls.rs", "whether a kept connection's certificate has expired, which is a date too"),
];

#[test]
fn the_wall_clock_is_read_where_people_read_it_and_nowhere_else() {
    let reads = |file: &super::File| {
        ["SystemTime::now", "UtcDateTime::now", "now_utc", "now_local"]
            .iter()
            .any(|call| file.source.names(call))
    };
    let files = program();
    let mut readers: Vec<_> =
        files.iter().filter(|file| reads(file)).map(|file| file.path.to_str().unwrap()).collect();
    readers.sort_unstable();
    assert!(readers.iter().copied().eq(READERS.map(|(file, _)| file)), "{readers:#?}");
}
