//! The log and the metrics: the access line of each exchange, the gateway's own messages, and the ids that connect both with a
//! request. All log lines go through one bounded [`queue::Queue`], so they keep their order. A stalled output loses lines,
//! which are counted, and never delays a client.

pub mod access;
mod clock;
pub mod history;
pub mod ids;
mod messages;
pub mod metrics;
mod pairs;
pub mod queue;
pub mod state_line;
pub mod trace;

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Registry, filter::Targets, layer::SubscriberExt};

use crate::config::Log;
use messages::Messages;
use queue::Queue;

/// The error of a second [`start`] in one process.
#[derive(Debug, thiserror::Error)]
#[error("logging has already been started")]
pub struct AlreadyStarted(#[source] tracing::subscriber::SetGlobalDefaultError);

/// Sends the process's messages to `queue` from now on, in the format and from the level of `log`.
///
/// # Errors
/// [`AlreadyStarted`] when the process already has a subscriber.
pub fn start(log: &Log, queue: &Queue) -> Result<(), AlreadyStarted> {
    tracing::subscriber::set_global_default(subscriber(log, queue)).map_err(AlreadyStarted)
}

/// Creates the subscriber that [`start`] installs.
///
/// Libraries are logged from `warn` on, whatever the level: their lower levels may show header values, and so keys.
pub fn subscriber(log: &Log, queue: &Queue) -> impl Subscriber + Send + Sync + use<> {
    let ours = LevelFilter::from_level(log.level);
    let filter =
        Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target(env!("CARGO_PKG_NAME"), ours);
    Registry::default().with(filter).with(Messages::new(queue.clone(), log.format))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::Level;

    use super::{queue::tests::Sink, *};
    use crate::config::LogFormat;

    fn logged(format: LogFormat, level: Level, speak: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let queue = Queue::start(Box::new(sink.clone()), 1 << 16, format);
        let log = Log { format, access: true, level, state: None };
        tracing::subscriber::with_default(subscriber(&log, &queue), speak);
        assert!(queue.flush(Duration::from_secs(60)));
        sink.lines()
    }

    #[test]
    fn a_message_is_one_json_object() {
        let lines = logged(LogFormat::Json, Level::INFO, || {
            let cause = std::io::Error::other("line\nbreak");
            tracing::info!(count = 3, ok = true, error = &cause as &dyn std::error::Error, "said \"it\"");
        });
        let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["kind"], "message");
        assert_eq!(value["level"], "info");
        assert_eq!(value["message"], "said \"it\"");
        assert_eq!(value["count"], 3);
        assert_eq!(value["ok"], true);
        assert_eq!(value["error"], "line\nbreak");
        assert_eq!(value["target"], module_path!());
    }

    #[test]
    fn the_text_form_keeps_to_one_line() {
        let lines = logged(LogFormat::Text, Level::INFO, || tracing::warn!(path = "a\nb", "two words"));
        let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
        assert!(line.contains(r#" kind=message level=warn "#), "{line}");
        assert!(line.contains(r#" message="two words" path="a\nb""#), "{line}");
    }

    #[test]
    fn levels_and_libraries_are_filtered() {
        let speak = || {
            tracing::debug!("ours, too low");
            tracing::error!("ours");
            tracing::info!(target: "h2::codec", "theirs, too low");
            tracing::warn!(target: "h2::codec", "theirs");
        };
        assert_eq!(logged(LogFormat::Json, Level::INFO, speak).len(), 2);
        assert_eq!(logged(LogFormat::Json, Level::TRACE, speak).len(), 3);
        assert_eq!(logged(LogFormat::Json, Level::ERROR, speak).len(), 1);
    }
}
