//! What is observed of a WebSocket connection: turns, usage, models, errors, close codes.

use std::sync::Arc;

use super::ending::Ending;
use crate::{
    access::Caller,
    exchange::Accounting,
    openai::{CLIENT_OUTLINED, ClientMessage, OUTLINED, ServerKind, ServerMessage, Usage},
    proxy::account_learning::IdWatch,
    snapshot::Route,
    websocket::{Interest, Observed},
};

/// What stands for a close frame without a status code (RFC 6455 §7.1.5).
const NO_CODE: u16 = 1005;

/// What was observed of a connection.
#[derive(Debug)]
pub(super) struct Watch {
    caller: Option<Arc<Caller>>,
    /// Whether the client may use some models only.
    is_limited: bool,
    /// The route, if it serves the models of tables only.
    closed: Option<Arc<Route>>,
    /// The model that the connection was opened for, or that its messages name first.
    pub(super) model: Option<String>,
    is_model_new: bool,
    /// The model that answers.
    pub(super) response_model: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) turns: u64,
    pub(super) failed_turns: u64,
    /// Turns that have begun and not ended.
    open_turns: u64,
    /// Turns that the client has asked for and that have not begun.
    asked: u64,
    /// Whether the server has begun a turn that the client has not asked for by a message: it does so when it hears the client's voice stop
    /// (OpenAI's Realtime API, "voice activity detection").
    has_begun_unasked: bool,
    /// Frames that the server has sent so far.
    pub(super) frames_down: u64,
    /// Frames that it had sent when the last turn began.
    turn_start: u64,
    /// Frames of the turns that ended without a report of their usage.
    unreported: u64,
    /// The last error.
    pub(super) error: Option<String>,
    /// The code of the first close frame.
    pub(super) close_code: Option<u16>,
    pub(super) client_closed: bool,
    pub(super) server_closed: bool,
    /// Whether the client's close frame was the first.
    pub(super) client_was_first: bool,
    /// Why a message of the client is not passed on.
    pub(super) refused: Option<Ending>,
    /// Learns which ids the account knows that answers.
    pub(super) ids: Option<Box<IdWatch>>,
}

impl Watch {
    /// Observes a connection that was opened for `model`. `caller` is the client, if it is known, and `closed` the route, if it serves
    /// the models of tables only.
    pub(super) fn new(
        caller: Option<Arc<Caller>>,
        closed: Option<Arc<Route>>,
        model: Option<String>,
    ) -> Self {
        Self {
            is_limited: caller.as_ref().is_some_and(|caller| caller.is_limited_to_models()),
            caller,
            closed,
            model,
            is_model_new: false,
            response_model: None,
            usage: None,
            turns: 0,
            failed_turns: 0,
            open_turns: 0,
            asked: 0,
            has_begun_unasked: false,
            frames_down: 0,
            turn_start: 0,
            unreported: 0,
            error: None,
            close_code: None,
            client_closed: false,
            server_closed: false,
            client_was_first: false,
            refused: None,
            ids: None,
        }
    }

    /// What is read of the client's messages. Of a limited client that is every one, because any may name a model.
    pub(super) fn of_client(&self) -> Interest {
        let is_limited = self.is_limited;
        let wants = if is_limited { |_: &[u8]| true } else { ClientMessage::is_wanted };
        Interest { wants, members: &CLIENT_OUTLINED, binary: is_limited }
    }

    /// What is read of the server's messages.
    pub(super) fn of_server() -> Interest {
        Interest { wants: ServerMessage::is_wanted, members: &OUTLINED, binary: false }
    }

    /// Whether a turn is under way.
    pub(super) fn is_in_turn(&self) -> bool {
        self.open_turns + self.asked > 0
    }

    /// Whether the server has begun a turn of its own since this was asked last.
    pub(super) fn take_unasked(&mut self) -> bool {
        std::mem::take(&mut self.has_begun_unasked)
    }

    /// Tokens of output that nobody has reported: one for each frame of a turn, also of those that are under way.
    pub(super) fn unreported_tokens(&self) -> u64 {
        let under_way = if self.open_turns > 0 { self.turn_frames() } else { 0 };
        self.unreported.saturating_add(under_way)
    }

    fn turn_frames(&self) -> u64 {
        self.frames_down.saturating_sub(self.turn_start).max(1)
    }

    /// Whether a close frame of either peer has passed.
    pub(super) fn has_close(&self) -> bool {
        self.client_closed || self.server_closed
    }

    /// The model that the client's messages have just named for the first time, if the client may use some only.
    pub(super) fn new_model(&mut self) -> Option<&str> {
        if std::mem::take(&mut self.is_model_new) { self.model.as_deref() } else { None }
    }

    /// Observes what the server has sent.
    pub(super) fn server(&mut self, seen: Observed<'_>) {
        let text = match seen {
            Observed::Message { text, .. } => text,
            Observed::Unreadable => return,
            Observed::Close(close) => {
                self.server_closed = true;
                self.close_code.get_or_insert(close.code.unwrap_or(NO_CODE));
                return;
            }
        };
        if let Some(ids) = &mut self.ids {
            ids.look(text);
            // The next message is another text.
            ids.look(b"\n");
        }
        let message = ServerMessage::read(text);
        let has_usage = message.usage.is_some();
        if let Some(usage) = message.usage {
            self.usage = Some(self.usage.map_or(usage, |sum| sum.plus(usage)));
        }
        self.response_model = self.response_model.take().or(message.model);
        self.error = message.code.or(self.error.take());
        match message.kind {
            ServerKind::Begun => {
                self.open_turns += 1;
                self.has_begun_unasked |= self.asked == 0;
                self.turn_start = self.frames_down;
                self.asked = self.asked.saturating_sub(1);
            }
            ServerKind::Ended | ServerKind::Failed => {
                self.turns += 1;
                if !has_usage {
                    self.unreported += self.turn_frames();
                }
                self.failed_turns += u64::from(message.kind == ServerKind::Failed);
                self.open_turns = self.open_turns.saturating_sub(1);
            }
            // The turn that was asked for does not begin.
            ServerKind::Error => self.asked = self.asked.saturating_sub(1),
            ServerKind::Other => {}
        }
    }

    /// Observes what the client has sent. False: it is not to be passed on, because of [`Watch::refused`].
    pub(super) fn client(&mut self, seen: Observed<'_>, account: Option<&Accounting>) -> bool {
        let (text, certain) = match seen {
            Observed::Message { text, certain, .. } => (text, certain),
            Observed::Unreadable if self.is_limited => {
                self.refused.get_or_insert(Ending::ModelUnknown);
                return false;
            }
            Observed::Unreadable => return true,
            Observed::Close(close) => {
                self.client_was_first = !self.server_closed;
                self.client_closed = true;
                self.close_code.get_or_insert(close.code.unwrap_or(NO_CODE));
                return true;
            }
        };
        let message = ClientMessage::read(text);
        if let Some(refused) = self.refusal(&message, certain) {
            self.refused.get_or_insert(refused);
            return false;
        }
        if message.asks
            && let Some(exhausted) = account.and_then(Accounting::exhausted)
        {
            self.refused.get_or_insert(Ending::LimitReached(exhausted));
            return false;
        }
        self.asked += u64::from(message.asks);
        if self.model.is_none() {
            self.model = message.models.into_iter().next();
            self.is_model_new = self.is_limited && self.model.is_some();
        }
        true
    }

    fn refusal(&self, message: &ClientMessage, certain: bool) -> Option<Ending> {
        let caller = self.caller.as_deref();
        let is_allowed = |name: &str| caller.is_none_or(|caller| caller.may_use_model(name));
        if let Some(forbidden) = message.models.iter().find(|model| !is_allowed(model)) {
            return Some(Ending::ModelForbidden(forbidden.clone()));
        }
        if let Some(index) = self.closed.as_ref().and_then(|route| route.models.as_ref())
            && let Some(unknown) = message.models.iter().find(|model| index.find(model).is_none())
        {
            let names = index.nearest(unknown, is_allowed);
            return Some(Ending::ModelNotFound { model: unknown.clone(), names });
        }
        if !self.is_limited {
            return None;
        }
        // Audio may begin a turn too, and so may messages of other APIs.
        let names_none = message.is_object && self.model.is_none() && message.models.is_empty();
        (message.is_unclear || !certain || names_none).then_some(Ending::ModelUnknown)
    }
}
