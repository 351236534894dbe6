//! Who looks at the live page.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::config::Secret;

/// Maximum number of viewers.
const MOST: usize = 16;

/// Messages that may wait for one viewer. Half of them are for those that it gets at first.
const QUEUE: usize = 16;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// The state and what changes of it.
    State,
    /// The configuration, with its problems and what its last change has changed.
    Configuration,
    /// Finished requests.
    Finished,
    /// Log lines.
    Log,
}

/// The topics that a viewer wants.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Topics(u8);

/// A message, ready to be sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Topic,
    pub(super) bytes: Bytes,
}

/// The viewers; at most [`MOST`].
#[derive(Debug, Default)]
pub(super) struct Viewers {
    list: RefCell<Vec<Viewer>>,
    /// Notified when a viewer has come.
    came: Notify,
}

/// One viewer.
#[derive(Debug)]
struct Viewer {
    messages: mpsc::Sender<Bytes>,
    /// Whether it has got the whole state.
    informed: Cell<bool>,
    /// What it is sent.
    topics: Topics,
    /// The admin token by which it came.
    token: Option<Secret>,
}

/// The body of a viewer's response.
#[derive(Debug)]
pub(in crate::admin) struct EventBody {
    messages: mpsc::Receiver<Bytes>,
}

impl Topic {
    const ALL: [Self; 4] = [Self::State, Self::Configuration, Self::Finished, Self::Log];

    fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Configuration => "configuration",
            Self::Finished => "finished",
            Self::Log => "log",
        }
    }
}

impl Topics {
    /// All topics.
    pub(super) fn all() -> Self {
        Topic::ALL.into_iter().fold(Self::default(), Self::with)
    }

    /// Topics by their names, with commas between them; `None` if one is unknown.
    pub(super) fn of(names: &str) -> Option<Self> {
        names.split(',').try_fold(Self::default(), |topics, name| {
            Some(topics.with(Topic::ALL.into_iter().find(|topic| topic.as_str() == name)?))
        })
    }

    /// Whether this topic is wanted.
    pub(super) fn has(self, topic: Topic) -> bool {
        self.0 & 1 << topic as u8 != 0
    }

    fn with(self, topic: Topic) -> Self {
        Self(self.0 | 1 << topic as u8)
    }
}

impl EventBody {
    /// The next message; `None` when the viewer was dropped because it was too slow.
    pub(in crate::admin) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.messages.poll_recv(cx)
    }
}

impl Viewers {
    /// Adds a viewer of these topics that came with this admin token; `None` if there are too many.
    pub(super) fn join(&self, topics: Topics, token: Option<Secret>) -> Option<EventBody> {
        self.forget_gone();
        let mut list = self.list.borrow_mut();
        if list.len() >= MOST {
            return None;
        }
        let (sender, messages) = mpsc::channel(QUEUE);
        list.push(Viewer { messages: sender, informed: Cell::new(false), topics, token });
        self.came.notify_one();
        Some(EventBody { messages })
    }

    /// Waits until a viewer comes.
    pub(super) async fn wait(&self) {
        self.came.notified().await;
    }

    /// Number of viewers.
    pub(super) fn count(&self) -> usize {
        self.forget_gone();
        self.list.borrow().len()
    }

    /// Ends the streams of viewers that came with another token than this one.
    pub(super) fn keep_those_with(&self, token: Option<&Secret>) {
        let wanted = token.map(Secret::expose);
        self.list.borrow_mut().retain(|viewer| viewer.token.as_ref().map(Secret::expose) == wanted);
    }

    /// The topics that any viewer wants.
    pub(super) fn wanted(&self) -> Topics {
        Topics(self.list.borrow().iter().fold(0, |all, viewer| all | viewer.topics.0))
    }

    /// Whether a viewer has not got the whole state yet.
    pub(super) fn has_new(&self) -> bool {
        self.list.borrow().iter().any(|viewer| !viewer.informed.get())
    }

    /// Sends a message to the viewers that know the state.
    pub(super) fn send(&self, message: &Message) {
        self.send_if(true, message);
    }

    /// Sends `messages` to the viewers that do not know the state yet; they know it then.
    pub(super) fn inform(&self, messages: &[Message]) {
        messages.iter().for_each(|message| self.send_if(false, message));
        self.list.borrow().iter().for_each(|viewer| viewer.informed.set(true));
    }

    /// A viewer whose queue is full is dropped: its stream ends, and it may come again.
    fn send_if(&self, informed: bool, message: &Message) {
        let takes = |viewer: &Viewer| {
            let is_meant = viewer.informed.get() == informed && viewer.topics.has(message.topic);
            !is_meant || viewer.messages.try_send(message.bytes.clone()).is_ok()
        };
        self.list.borrow_mut().retain(takes);
    }

    fn forget_gone(&self) {
        self.list.borrow_mut().retain(|viewer| !viewer.messages.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn message(text: &'static str) -> Message {
        Message { topic: Topic::State, bytes: text.into() }
    }

    async fn next(body: &mut EventBody) -> Option<Bytes> {
        poll_fn(|cx| body.poll_next(cx)).await
    }

    #[tokio::test]
    async fn a_new_viewer_gets_the_state_before_what_changes() {
        let viewers = Viewers::default();
        let mut old = viewers.join(Topics::all(), None).unwrap();
        viewers.inform(&[message("state")]);
        let mut new = viewers.join(Topics::all(), None).unwrap();
        viewers.send(&message("delta"));
        assert!(viewers.has_new());
        viewers.inform(&[message("newer state")]);
        assert!(!viewers.has_new());
        assert_eq!(
            (next(&mut old).await, next(&mut old).await),
            (Some("state".into()), Some("delta".into()))
        );
        assert_eq!(next(&mut new).await, Some("newer state".into()));
    }

    #[tokio::test]
    async fn a_viewer_gets_the_topics_that_it_wants_and_nothing_else_is_wanted() {
        let viewers = Viewers::default();
        assert_eq!((Topics::of("state,other"), Topics::of("")), (None, None));
        let mut few = viewers.join(Topics::of("state").unwrap(), None).unwrap();
        assert!(viewers.wanted().has(Topic::State) && !viewers.wanted().has(Topic::Log));
        let mut more = viewers.join(Topics::of("log,state").unwrap(), None).unwrap();
        assert!(viewers.wanted().has(Topic::Log) && !viewers.wanted().has(Topic::Configuration));
        let all = [(Topic::Configuration, "c"), (Topic::Log, "l"), (Topic::State, "s")];
        viewers.inform(&all.map(|(topic, text)| Message { topic, bytes: text.into() }));
        assert_eq!(next(&mut few).await, Some("s".into()));
        assert_eq!((next(&mut more).await, next(&mut more).await), (Some("l".into()), Some("s".into())));
        viewers.send(&Message { topic: Topic::Log, bytes: "l".into() });
        viewers.send(&message("delta"));
        assert_eq!((next(&mut few).await, next(&mut more).await), (Some("delta".into()), Some("l".into())));
    }

    #[tokio::test]
    async fn a_slow_viewer_is_dropped_and_others_stay() {
        let viewers = Viewers::default();
        let (mut slow, mut quick) =
            (viewers.join(Topics::all(), None).unwrap(), viewers.join(Topics::all(), None).unwrap());
        viewers.inform(&[]);
        for _ in 0..=QUEUE {
            viewers.send(&message("delta"));
            assert!(next(&mut quick).await.is_some());
        }
        assert_eq!(viewers.count(), 1);
        for _ in 0..QUEUE {
            assert!(next(&mut slow).await.is_some());
        }
        assert_eq!(next(&mut slow).await, None);
    }

    #[tokio::test]
    async fn a_withdrawn_token_ends_the_streams_of_those_who_came_with_it() {
        let secret = |text: &str| Secret::new(text.as_bytes()).unwrap();
        let viewers = Viewers::default();
        let (mut old, mut new) = (
            viewers.join(Topics::all(), Some(secret("token-one"))).unwrap(),
            viewers.join(Topics::all(), Some(secret("token-two"))).unwrap(),
        );
        viewers.keep_those_with(Some(&secret("token-two")));
        viewers.inform(&[message("state")]);
        assert_eq!((next(&mut old).await, next(&mut new).await), (None, Some("state".into())));
        viewers.keep_those_with(None);
        assert_eq!(next(&mut new).await, None);
    }

    #[test]
    fn the_number_of_viewers_is_bounded_and_who_left_makes_room() {
        let viewers = Viewers::default();
        let mut all: Vec<_> = (0..MOST).map(|_| viewers.join(Topics::all(), None).unwrap()).collect();
        assert!(viewers.join(Topics::all(), None).is_none());
        all.pop();
        assert!(viewers.join(Topics::all(), None).is_some());
    }
}
