//! Why the gateway itself ends a WebSocket connection.

use std::time::Duration;

use http::StatusCode;

use crate::{
    body::Cut,
    fault::{CloseReason, Fault, Language},
    limit::Refused,
    proxy::admission::limit_fault,
    websocket::Close,
};

/// Why the gateway ends a WebSocket connection that neither peer has closed.
#[derive(Debug)]
pub(super) enum Ending {
    /// The process drains.
    Drain,
    /// What the client was granted is withdrawn.
    Revoked,
    /// The operator has cancelled it.
    Operator,
    /// Nothing passed for this long.
    Idle(Duration),
    /// The connection has lasted this long, its total timeout.
    Total(Duration),
    /// The client reads nothing.
    Stalled,
    /// The upstream's connection ended without a close frame.
    UpstreamLost,
    /// The upstream takes nothing of what the client sends, for this long.
    UpstreamStalled(Duration),
    /// The client asks for a model that it may not use.
    ModelForbidden(String),
    /// The route serves the models of tables only, and the client asks for another one.
    ModelNotFound {
        /// The model.
        model: String,
        /// Names like it that the client may use.
        names: Vec<String>,
    },
    /// The client is limited to some models, and it cannot be read which one it asks for.
    ModelUnknown,
    /// A limit on tokens or cost is used up, and the client asks for another turn.
    LimitReached(Refused),
}

impl Ending {
    /// The ending for the cause of an abort. `age` is the duration of the exchange.
    pub(super) fn of_cut(cut: Cut, age: Duration) -> Self {
        match cut {
            Cut::Drain => Self::Drain,
            Cut::Revoked => Self::Revoked,
            Cut::Operator => Self::Operator,
            Cut::Total => Self::Total(age),
            Cut::WriteStall => Self::Stalled,
        }
    }

    /// Whether the client has done what it may not do; it then gets an error event too.
    pub(super) fn is_refusal(&self) -> bool {
        self.code() == Close::POLICY
    }

    /// The status code that the client gets. 1001 makes SDKs that reconnect do so, and so does 1011; 1008 does not (openai-python
    /// `resources/realtime/realtime.py`, openai-node `realtime/internal-base.ts`).
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Drain | Self::Idle(_) | Self::Total(_) | Self::Stalled => Close::GOING_AWAY,
            Self::UpstreamLost | Self::UpstreamStalled(_) => Close::INTERNAL,
            Self::Revoked
            | Self::Operator
            | Self::ModelForbidden(_)
            | Self::ModelNotFound { .. }
            | Self::ModelUnknown
            | Self::LimitReached(_) => Close::POLICY,
        }
    }

    /// The reason that the client gets with the code.
    pub(super) fn reason(&self, language: Language) -> String {
        match self {
            Self::Drain => CloseReason::Draining.text(language),
            Self::UpstreamLost | Self::UpstreamStalled(_) => CloseReason::UpstreamLost.text(language),
            _ => self.fault().close_reason(language),
        }
    }

    /// The fault of the exchange, whose code is logged.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Drain => Fault::CutByDrain,
            Self::Revoked => Fault::KeyRevoked,
            Self::Operator => Fault::CutByOperator,
            Self::Idle(span) => Fault::TunnelIdle(*span),
            Self::Total(span) => Fault::TotalTimeout(*span),
            Self::Stalled => Fault::CallerStalled,
            Self::UpstreamLost => {
                Fault::Truncated("the upstream connection ended without a close frame".into())
            }
            Self::UpstreamStalled(span) => {
                let span = span.as_secs_f64();
                Fault::Truncated(format!("the upstream has taken nothing for {span} s").into())
            }
            Self::ModelForbidden(model) => Fault::ModelForbidden(model.clone()),
            Self::ModelNotFound { model, names } => Fault::model_not_found(model, names),
            Self::ModelUnknown => Fault::ModelUnknown,
            Self::LimitReached(refused) => limit_fault(refused),
        }
    }
}

/// The status code with which a web page is closed that cannot see the response with `status`.
pub(super) fn code_of_refusal(status: StatusCode) -> u16 {
    // What passes by waiting.
    let is_overload = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if is_overload { Close::TRY_AGAIN_LATER } else { Close::REFUSED }
}
