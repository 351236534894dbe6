//! What every rung of the ladder reads and none changes, and how an exchange begins.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, Method, Version, request};
use hyper::body::Incoming;

use super::{downstream::Downstream, known_head::KnownHead, worker::Worker};
use crate::{
    access,
    body::RequestBody,
    config::Network,
    exchange::{Counted, Exchange, Opening},
    fault::ErrorForm,
    policy::SecretScanner,
    snapshot::Snapshot,
    telemetry::ids::{CallerIds, TraceContext},
};

/// The most values of one request that are searched for as possible keys. A request that presents more is hostile, and its path is not logged.
const MOST_PRESENTED: usize = 8;

/// What is logged where a key was found.
const WITHHELD: &str = "[withheld: holds the key]";

/// What every rung of the ladder reads and none changes.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    pub(super) worker: Rc<Worker>,
    pub(super) downstream: Rc<Downstream>,
    /// Loaded once per request; a later reload does not change it.
    pub(super) snapshot: Arc<Snapshot>,
    /// What is known of the request's head, if the request before had the same.
    pub(super) known_head: Option<Rc<KnownHead>>,
}

/// What may be logged of a request's head. The trace context goes upstream as well.
pub(super) struct LogSafeHead {
    path: String,
    method: Method,
    trace: TraceContext,
    caller_ids: Option<Box<CallerIds>>,
    pub(super) presented: Presented,
}

/// The keys that a request presents, and whether they also occur in its request line.
#[derive(Debug, Clone)]
pub(super) struct Presented {
    /// Finds everything that the request presents as a key.
    pub(super) scanner: Rc<SecretScanner<'static>>,
    /// Whether one of them also occurs in the request's path or method.
    pub(super) in_request_line: bool,
}

impl RequestContext {
    /// The context of a request that comes on `downstream`, with the current configuration.
    pub(super) fn new(worker: Rc<Worker>, downstream: Rc<Downstream>) -> Self {
        let snapshot = worker.gateway.live.load_full();
        Self { worker, downstream, snapshot, known_head: None }
    }

    /// The context of a request with this head, which the connection may know.
    pub(super) fn of_head(worker: Rc<Worker>, downstream: Rc<Downstream>, head: &request::Parts) -> Self {
        let context = Self::new(worker, downstream);
        let known_head = context.downstream.head_memo.find(head, &context.snapshot);
        Self { known_head, ..context }
    }

    /// Begins the exchange of the request with this head.
    pub(super) fn open_exchange(
        &self,
        head: &request::Parts,
        safe: LogSafeHead,
        in_flight: Counted,
    ) -> Box<Exchange> {
        let (error_form, sdk) = match &self.known_head {
            Some(known) => (known.facts.error_form, known.facts.sdk),
            None => {
                let form = ErrorForm::of(&head.headers, head.uri.path());
                (form, self.worker.sdks.borrow_mut().read(&head.headers))
            }
        };
        let opening = Opening {
            client: client_address(&self.downstream, &head.headers),
            tls: self.downstream.tls,
            trace: safe.trace,
            caller_ids: safe.caller_ids,
            version: head.version,
            method: safe.method,
            path: safe.path,
            error_form,
            languages: self.snapshot.errors.languages_for(&head.headers),
            sdk,
        };
        let log = self.snapshot.log.access.then(|| self.worker.gateway.access_log.clone());
        let metrics = self.worker.metrics.clone();
        let mut exchange = Exchange::open(opening, &self.downstream.connection, log, metrics, in_flight);
        if let Some(tracer) = &self.snapshot.tracer {
            exchange.trace_with(tracer);
        }
        exchange
    }

    /// Wraps a request's body so that the connection knows when it is not read to its end.
    pub(super) fn request_body(&self, body: Incoming, version: Version) -> RequestBody {
        let linger = (version == Version::HTTP_2).then_some(self.snapshot.server.linger);
        RequestBody::new(body, self.downstream.connection.clone(), linger)
    }
}

impl LogSafeHead {
    /// Reads the parts of a request's head that are logged, and hides those that contain a key. The client is not known yet, and may never
    /// be, so everything that could be a key is searched for, and the keys of all upstreams. (A method may be any word.)
    pub(super) fn read(head: &request::Parts, context: &RequestContext) -> Self {
        if let Some(known) = &context.known_head {
            return Self::known(head, known);
        }
        let presented = access::presented(&head.headers, head.uri.query(), MOST_PRESENTED + 1);
        let scanner = context.downstream.memo.scanner(&presented);
        let is_hostile = presented.len() > MOST_PRESENTED;
        let upstream_keys = &context.snapshot.upstream_keys;
        let path_holds_key = scanner.found_in(head.uri.path().as_bytes());
        let method_holds_key = scanner.found_in(head.method.as_str().as_bytes());
        let hide_path = path_holds_key || is_hostile || upstream_keys.found_in(head.uri.path().as_bytes());
        let hide_method =
            method_holds_key || is_hostile || upstream_keys.found_in(head.method.as_str().as_bytes());
        let mut given = TraceContext::of(&head.headers);
        let holds_key = |text: &[u8]| is_hostile || scanner.found_in(text) || upstream_keys.found_in(text);
        let replace_trace = given.holds_secret(holds_key);
        if context.snapshot.tracer.is_some() {
            given.keep_state(&head.headers, holds_key);
        }
        let caller_ids = CallerIds::of(&head.headers, holds_key);
        Self {
            path: if hide_path { WITHHELD } else { head.uri.path() }.to_owned(),
            method: if hide_method { withheld_method() } else { head.method.clone() },
            trace: if replace_trace { TraceContext::random() } else { given },
            caller_ids,
            presented: Presented { scanner, in_request_line: path_holds_key || method_holds_key },
        }
    }

    /// The head of a request that its connection knows: it has no ids of its own, and a key stands in its headers only.
    fn known(head: &request::Parts, known: &KnownHead) -> Self {
        Self {
            path: head.uri.path().to_owned(),
            method: head.method.clone(),
            trace: TraceContext::random(),
            caller_ids: None,
            presented: Presented { scanner: known.facts.key.clone(), in_request_line: false },
        }
    }
}

fn withheld_method() -> Method {
    Method::from_bytes(b"WITHHELD").unwrap_or_default()
}

/// The client's address: the TCP peer's (or the PROXY header's), or, if that peer is trusted, the last address in `x-forwarded-for` that is not
/// itself trusted. Nothing further left is believed.
fn client_address(downstream: &Downstream, headers: &HeaderMap) -> IpAddr {
    let peer = downstream.client.ip();
    let Some(trusted) = downstream.trusted.as_deref() else { return peer };
    let is_trusted = |address: IpAddr| trusted.iter().any(|network: &Network| network.contains(address));
    let mut nearest = peer;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for element in value.as_bytes().rsplit(|byte| *byte == b',') {
            if !is_trusted(nearest) {
                return nearest;
            }
            let Some(address) = forwarded_address(element) else { return nearest };
            nearest = address;
        }
    }
    nearest
}

/// An element of `x-forwarded-for`: an address, perhaps with a port.
fn forwarded_address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    text.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}
