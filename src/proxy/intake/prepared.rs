//! A request that is ready to be sent to a candidate.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::request;
use http_body::Body;

use super::models::{self, Named};
use crate::{
    access::Caller,
    body::{Outbound, RequestBody, SpoolFile},
    fault::{Fault, Reason},
    openai::{EditPoints, Operation, Repeat},
    proxy::{
        account_choice::AccountChoice,
        arrival::{Arrived, Handshake},
        rewrite::Rewrite,
    },
    snapshot::{Route, Target},
    upstream::{Affinity, Dialer},
};

/// A request that is ready to be sent to a candidate.
#[derive(Debug)]
pub(in crate::proxy) struct PreparedRequest {
    pub(in crate::proxy) arrived: Arrived,
    pub(in crate::proxy) head: request::Parts,
    pub(in crate::proxy) content: RequestContent,
    /// The body as it is edited, if it is compressed and some candidate has a model of its own.
    pub(in crate::proxy) decoded: Option<Bytes>,
    /// The model that the request asks for; unlike the one in the record, it may look like the key of some upstream.
    pub(in crate::proxy) model: Option<Arc<str>>,
    /// Other models that it names.
    pub(in crate::proxy) more_models: Vec<String>,
    /// The model that the path names (Azure, Gemini).
    pub(in crate::proxy) path_model: Option<String>,
    /// Whether the same request may be sent again, judged by its operation and its body.
    pub(in crate::proxy) repeat: Repeat,
    /// The body says `store: true`.
    pub(in crate::proxy) stored: bool,
    /// Where the body can be edited, if it was read.
    pub(in crate::proxy) edit_points: EditPoints,
    /// Whether the response is to be an event stream.
    pub(in crate::proxy) stream: bool,
    /// Whether upstreams are asked for the usage of the stream although the client does not ask for it.
    pub(in crate::proxy) adds_usage: bool,
    pub(in crate::proxy) operation: Operation,
    /// How often an SDK has sent this request before.
    pub(in crate::proxy) retries_so_far: u32,
    /// One for each step of the route; empty if no step balances by a hash.
    pub(in crate::proxy) affinities: Vec<Affinity>,
    /// The accounts that it may be sent to, if not all may be.
    pub(in crate::proxy) accounts: Option<Box<AccountChoice>>,
    /// The route as it is configured, if a `[model.NAME]` table has given its upstreams.
    pub(in crate::proxy) configured_route: Option<Arc<Route>>,
    /// What a request for a WebSocket connection says; such a request has no body.
    pub(in crate::proxy) handshake: Option<Rc<Handshake>>,
    /// What is rewritten in the response.
    pub(in crate::proxy) rewrite: Option<Box<Rewrite>>,
}

/// The request's body, as far as it had to be read.
#[derive(Debug)]
pub(in crate::proxy) enum RequestContent {
    /// Read whole.
    Read(Bytes),
    /// Read whole, into a file.
    Spooled(Arc<SpoolFile>),
    /// Forwarded as it arrives.
    Streamed(RequestBody),
    /// The body was forwarded, and cannot be sent again.
    Gone,
}

impl PreparedRequest {
    /// Whether the request is inference whose answer is of use to its client alone, so that the gateway may hold it back and ask for another.
    pub(in crate::proxy) fn is_inference(&self) -> bool {
        self.operation.endpoint.is_inference()
            && self.repeat == Repeat::Compute
            && matches!(self.content, RequestContent::Read(_))
    }

    /// Whether the response to this inference is to be an event stream of a known dialect.
    pub(in crate::proxy) fn streams_known_dialect(&self) -> bool {
        self.stream && self.operation.dialect().has_terminal_event()
    }

    /// Whether a candidate's own model belongs into its body.
    pub(in crate::proxy) fn takes_model(&self) -> bool {
        let is_in_gemini_path = || self.path_model.is_some() && !self.operation.model.is_in_body();
        (self.model.is_some() || self.operation.takes_model()) && !is_in_gemini_path()
    }

    /// Whether the body must be edited for a candidate with a model of its own, and cannot be.
    pub(in crate::proxy) fn lacks_place_for_model(&self) -> bool {
        let is_read = matches!(self.content, RequestContent::Read(_) | RequestContent::Spooled(_));
        is_read && self.edit_points == EditPoints::NotAnObject && self.takes_model()
    }

    /// Gives the request the upstreams of the `[model.NAME]` table that fits its model, if its route uses such tables. What was made for each of
    /// the route's steps is void then.
    ///
    /// # Errors
    /// The route serves only models that have a table, and this one has none.
    pub(in crate::proxy) fn choose_upstreams(&mut self, caller: Option<&Caller>) -> Result<(), Fault> {
        let named = Named { model: self.model.as_deref(), in_path: self.path_model.as_deref() };
        let Some(configured) = models::choose_upstreams(&mut self.arrived.routed, caller, named)? else {
            return Ok(());
        };
        if let Some(ephemeral) = &self.arrived.ephemeral
            && !self.arrived.routed.route.steps.iter().any(|step| step.upstream.name == ephemeral.upstream)
        {
            return Err(Fault::EphemeralKeyInvalid(Reason::EphemeralModel));
        }
        self.configured_route = Some(configured);
        self.affinities.clear();
        Ok(())
    }

    /// The name of the `[model.NAME]` table that has given the request its upstreams.
    pub(in crate::proxy) fn model_table(&self) -> Option<&str> {
        let index = self.configured_route.as_ref()?.models.as_ref()?;
        let deciding = self.path_model.as_deref().or(self.model.as_deref())?;
        Some(&index.find(deciding)?.table)
    }

    /// Whether the route, as it is configured, has several accounts.
    pub(in crate::proxy) fn has_several_accounts(&self) -> bool {
        self.configured_route.as_ref().unwrap_or(&self.arrived.routed.route).has_several_accounts
    }

    /// The name that the client's `models` are compared with when a request names `model`.
    pub(in crate::proxy) fn counted_name<'a>(&'a self, model: &'a str) -> &'a str {
        let route = self.configured_route.as_ref().unwrap_or(&self.arrived.routed.route);
        route.models.as_ref().map_or(model, |models| models.counted_name(model))
    }

    /// The dialer of the connections to `target` that can carry this request: only one of HTTP/1.1 switches to WebSocket.
    pub(in crate::proxy) fn dialer<'t>(&self, target: &'t Target) -> &'t Arc<Dialer> {
        if self.handshake.is_some() { target.dialer.for_upgrades() } else { &target.dialer }
    }

    /// Whether its body is still there.
    pub(in crate::proxy) fn can_be_sent(&self) -> bool {
        !matches!(self.content, RequestContent::Gone)
    }

    /// Whether two upstreams may work on it at the same time: nothing is created twice, and its body is held.
    pub(in crate::proxy) fn can_be_sent_twice(&self) -> bool {
        let is_here = matches!(self.content, RequestContent::Read(_) | RequestContent::Spooled(_));
        self.repeat.is_harmless() && (is_here || self.content.is_empty())
    }

    /// Takes back a streamed body of which nothing was sent.
    pub(in crate::proxy) fn take_back(&mut self, body: Outbound) {
        if let Outbound::Stream(upload) = body {
            self.content = RequestContent::Streamed(upload.into_inner());
        }
    }
}

impl RequestContent {
    /// The body, if it was read.
    pub(in crate::proxy) fn held(&self) -> Option<&Bytes> {
        if let Self::Read(bytes) = self { Some(bytes) } else { None }
    }

    /// Whether there is nothing to send.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        matches!(self, Self::Streamed(body) if body.is_end_stream())
    }
}
