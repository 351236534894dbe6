//! Whether a request names the model that it runs.

/// Whether the requests of an operation run a model, and whether they name it where the gateway can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelUse {
    /// The body has a member or form field `model`.
    Named,
    /// The body may have a member `model`; without it, the request uses no other model than its client already may.
    Optional,
    /// The body has a Realtime session, whose member `model` names it.
    InSession,
    /// The request runs a model that it names elsewhere: in its path, in a nested member, in a file, by the id of something else. A member
    /// `model` of its body says nothing about that.
    Elsewhere,
    /// The operation is not known. It is taken to run a model, and the member `model` of its body to name that.
    Unseen,
    /// The request runs no model.
    None,
}

impl ModelUse {
    /// Whether a client that is limited to some models must name one.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Named | Self::InSession | Self::Elsewhere | Self::Unseen)
    }

    /// Whether a `model` in the body names the model that the request runs.
    pub fn may_be_in_body(self) -> bool {
        self != Self::Elsewhere
    }

    /// Whether a body of this operation is worth being read for its `model`.
    pub fn is_in_body(self) -> bool {
        matches!(self, Self::Named | Self::InSession | Self::Optional)
    }
}
