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
    /// The admin token by which it came.
    token: Option<Secret>,
}

/// The body of a viewer's response.
#[derive(Debug)]
pub(in crate::admin) struct EventBody {
    messages: mpsc::Receiver<Bytes>,
}

impl EventBody {
    /// The next message; `None` when the viewer was dropped because it was too slow.
    pub(in crate::admin) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.messages.poll_recv(cx)
    }
}

impl Viewers {
    /// Adds a viewer that came with this admin token; `None` if there are too many.
    pub(super) fn join(&self, token: Option<Secret>) -> Option<EventBody> {
        self.forget_gone();
        let mut list = self.list.borrow_mut();
        if list.len() >= MOST {
            return None;
        }
        let (sender, messages) = mpsc::channel(QUEUE);
        list.push(Viewer { messages: sender, informed: Cell::new(false), token });
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

    /// Whether a viewer has not got the whole state yet.
    pub(super) fn has_new(&self) -> bool {
        self.list.borrow().iter().any(|viewer| !viewer.informed.get())
    }

    /// Sends a message to the viewers that know the state.
    pub(super) fn send(&self, message: &Bytes) {
        self.send_if(true, message);
    }

    /// Sends `messages` to the viewers that do not know the state yet; they know it then.
    pub(super) fn inform(&self, messages: &[Bytes]) {
        messages.iter().for_each(|message| self.send_if(false, message));
        self.list.borrow().iter().for_each(|viewer| viewer.informed.set(true));
    }

    /// A viewer whose queue is full is dropped: its stream ends, and it may come again.
    fn send_if(&self, informed: bool, message: &Bytes) {
        let takes = |viewer: &Viewer| {
            viewer.informed.get() != informed || viewer.messages.try_send(message.clone()).is_ok()
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

    async fn next(body: &mut EventBody) -> Option<Bytes> {
        poll_fn(|cx| body.poll_next(cx)).await
    }

    #[tokio::test]
    async fn a_new_viewer_gets_the_state_before_what_changes() {
        let viewers = Viewers::default();
        let mut old = viewers.join(None).unwrap();
        viewers.inform(&["state".into()]);
        let mut new = viewers.join(None).unwrap();
        viewers.send(&"delta".into());
        assert!(viewers.has_new());
        viewers.inform(&["newer state".into()]);
        assert!(!viewers.has_new());
        assert_eq!(
            (next(&mut old).await, next(&mut old).await),
            (Some("state".into()), Some("delta".into()))
        );
        assert_eq!(next(&mut new).await, Some("newer state".into()));
    }

    #[tokio::test]
    async fn a_slow_viewer_is_dropped_and_others_stay() {
        let viewers = Viewers::default();
        let (mut slow, mut quick) = (viewers.join(None).unwrap(), viewers.join(None).unwrap());
        viewers.inform(&[]);
        for _ in 0..=QUEUE {
            viewers.send(&"delta".into());
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
            viewers.join(Some(secret("token-one"))).unwrap(),
            viewers.join(Some(secret("token-two"))).unwrap(),
        );
        viewers.keep_those_with(Some(&secret("token-two")));
        viewers.inform(&["state".into()]);
        assert_eq!((next(&mut old).await, next(&mut new).await), (None, Some("state".into())));
        viewers.keep_those_with(None);
        assert_eq!(next(&mut new).await, None);
    }

    #[test]
    fn the_number_of_viewers_is_bounded_and_who_left_makes_room() {
        let viewers = Viewers::default();
        let mut all: Vec<_> = (0..MOST).map(|_| viewers.join(None).unwrap()).collect();
        assert!(viewers.join(None).is_none());
        all.pop();
        assert!(viewers.join(None).is_some());
    }
}
