//! Copies of shared counts when another server answers.

use super::{super::copy::copy, *};

/// What a client has used of a burst of sixty requests in a minute.
struct Client(Applied);

impl Client {
    fn new() -> Self {
        let subject = Subject::client("t", Some("a"), None);
        Self(applied(Limit { requests: rate(60, 60, 60), ..limit("requests") }, &subject))
    }

    /// A reply comes that says that so much is used; its server's clock says `time`, in seconds.
    fn hears(&self, used: u32, time: f64, copying: Copying) {
        let now = time * 1_000_000.0;
        let value = now + f64::from(used) * 1_000_000.0;
        copy(&self.0.counter, Unit::Requests, (value, 0.0), (None, None), Copying { now, ..copying });
    }

    fn used(&self, millis: i64) -> u64 {
        self.0.counter.remaining(&self.0.limit, moment(millis)).requests.unwrap().used
    }
}

/// A call of so many milliseconds after the beginning, with its reply a millisecond later.
fn sent(millis: i64, servers: u32) -> Copying {
    let [sent, read] = [millis, millis + 1].map(|millis| moment(millis).monotonic);
    Copying { sent, read, now: 0.0, servers, is_restored: true }
}

#[test]
fn replies_of_another_server_are_copied_though_its_clock_is_behind() {
    let client = Client::new();
    client.hears(50, 1_000.0, sent(0, 1));
    assert_eq!(client.used(0), 50);
    client.hears(10, 400.0, sent(0, 2));
    assert_eq!(client.used(0), 10);
    // A reply of the first server that comes late says nothing.
    client.hears(51, 1_001.0, sent(0, 1));
    assert_eq!(client.used(0), 10);
    client.hears(11, 401.0, sent(0, 2));
    assert_eq!(client.used(0), 11);
}

#[test]
fn older_replies_of_one_server_are_not_copied() {
    let client = Client::new();
    client.hears(20, 1_000.0, sent(5, 1));
    client.hears(19, 999.0, sent(5, 1));
    assert_eq!(client.used(5), 20);
    // What was sent after the last reply is newer, whatever the clock says: in a cluster the value may have moved.
    client.hears(21, 900.0, sent(7, 1));
    assert_eq!(client.used(7), 21);
    client.hears(22, 901.0, sent(7, 1));
    assert_eq!(client.used(7), 22);
}
