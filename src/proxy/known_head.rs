//! A connection's memory of its last request's head.
//!
//! An SDK sends the same head with nearly every request of a connection, except for `content-length`. What follows from the head and the
//! configuration alone (route, client, headers that are withheld) is the same again then, and is neither checked nor computed a second time.
//!
//! Only the head of a request that found its route and its client is remembered, and only if nothing in it is meant for this one request: no ids
//! of a trace, no `origin`, no timeout of the client's own. A head that differs in one byte is read as if nothing were remembered.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::{Arc, Weak},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, HeaderName, Method, Uri, Version, header, request};
use zeroize::Zeroizing;

use crate::{
    access::KnownKey,
    fault::ErrorForm,
    limit::Applied,
    openai::Operation,
    policy::{SecretScanner, path},
    snapshot::Route,
    snapshot::Snapshot,
    telemetry::metrics::sdk::Sdk,
};

/// Limit in bytes of a head that is remembered: of its names, its values and its target. The heads of SDKs have about one KiB.
const MOST_BYTES: usize = 2048;

/// Limit of its header lines. The heads of SDKs have about 20.
const MOST_LINES: usize = 40;

/// Headers that are meant for one request, or are answered one by one.
const OF_ONE_REQUEST: [HeaderName; 7] = [
    header::ORIGIN,
    header::TRAILER,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-trace-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-client-request-id"),
    HeaderName::from_static("x-sluicegate-timeout"),
];

/// Where clients put secrets; one that is not the client's key may be another's.
const SECRETS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SEC_WEBSOCKET_PROTOCOL,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The head that a connection remembers: at most one, of at most [`MOST_LINES`] and [`MOST_BYTES`].
#[derive(Debug, Default)]
pub struct HeadMemo(RefCell<Option<Rc<KnownHead>>>);

/// A request's head, and what follows from it.
#[derive(Debug)]
pub(super) struct KnownHead {
    written: WrittenHead,
    /// Held weakly, since connections outlive snapshots; as long as it is held, no other snapshot has its address.
    snapshot: Weak<Snapshot>,
    pub(super) facts: HeadFacts,
    /// The names that the header policy takes out of this head on its way upstream; set when the first such request goes there.
    pub(super) withheld: OnceCell<Box<[HeaderName]>>,
    /// What it says about the body; set when the first such request is taken in.
    pub(super) intake: OnceCell<IntakeFacts>,
    /// The limits that apply to it with any model; set when the first such request is asked about.
    pub(super) limits: OnceCell<Rc<[Applied]>>,
}

/// What follows from a request's head.
#[derive(Debug)]
pub(super) struct HeadFacts {
    /// Finds the client's key, the only one that the head presents.
    pub(super) key: Rc<SecretScanner<'static>>,
    pub(super) client: KnownKey,
    /// Held weakly, as the snapshot is: a connection must not keep upstreams, and their keys, of an old configuration.
    pub(super) route: Weak<Route>,
    /// The canonical path, which decided the route.
    pub(super) path: Rc<str>,
    /// The same path, rewritten, as it goes to the first of the route's targets.
    pub(super) upstream_path: Rc<str>,
    pub(super) operation: Operation,
    pub(super) error_form: ErrorForm,
    pub(super) sdk: Sdk,
}

/// What follows from a request's head for the reading of its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct IntakeFacts {
    /// The body is JSON that is not compressed.
    pub(super) is_plain_json: bool,
    /// The path may name the model.
    pub(super) names_model: bool,
    /// How often an SDK has sent the request before.
    pub(super) retries_so_far: u32,
}

impl HeadMemo {
    /// What is known of this head, if it is that of the request before.
    pub(super) fn find(&self, head: &request::Parts, snapshot: &Arc<Snapshot>) -> Option<Rc<KnownHead>> {
        let memo = &mut *self.0.borrow_mut();
        let known = memo.as_ref()?;
        if !std::ptr::eq(known.snapshot.as_ptr(), Arc::as_ptr(snapshot)) {
            *memo = None;
            return None;
        }
        known.written.is(head).then(|| known.clone())
    }

    /// Remembers this head, if it may come again.
    pub(super) fn remember(
        &self,
        head: &request::Parts,
        snapshot: &Arc<Snapshot>,
        facts: HeadFacts,
    ) -> Option<Rc<KnownHead>> {
        let written = WrittenHead::of(head, &facts.key)?;
        let snapshot = Arc::downgrade(snapshot);
        let known = Rc::new(KnownHead {
            written,
            snapshot,
            facts,
            withheld: OnceCell::new(),
            intake: OnceCell::new(),
            limits: OnceCell::new(),
        });
        self.0.replace(Some(known.clone()));
        Some(known)
    }
}

/// A copy of a head for comparing; its own, because a header's value would keep the whole buffer that it was read from.
struct WrittenHead {
    method: Method,
    version: Version,
    target: Target,
    lines: Box<[HeaderLine]>,
    /// The values of all lines, one behind the other.
    values: Zeroizing<Box<[u8]>>,
}

/// The parts of a request's target.
struct Target {
    scheme: Option<Box<str>>,
    authority: Option<Box<str>>,
    path_and_query: Option<Box<str>>,
}

struct HeaderLine {
    name: HeaderName,
    length: usize,
    compared: Compared,
}

/// How a line's value is compared.
#[derive(Clone, Copy)]
enum Compared {
    Plainly,
    /// In constant time, because it is a secret: clients that share a connection behind another proxy could otherwise find out each other's.
    InConstantTime,
    /// Not at all. What belongs to the body is read from the request itself.
    Never,
}

impl WrittenHead {
    /// `None` if the head is not to be remembered.
    fn of(head: &request::Parts, key: &SecretScanner<'_>) -> Option<Self> {
        let headers = &head.headers;
        let bytes: usize = headers.values().map(http::HeaderValue::len).sum();
        let names: usize = headers.keys().map(|name| name.as_str().len()).sum();
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let is_large = bytes + names + target > MOST_BYTES || headers.len() > MOST_LINES;
        let is_single = OF_ONE_REQUEST.iter().any(|name| headers.contains_key(name));
        let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
        // A key in the query is nobody's proof, and is not compared in constant time.
        let holds_key = head
            .uri
            .query()
            .is_some_and(|query| path::strip_credentials(query, |text| key.found_in(text)) != query);
        if is_large || is_single || lengths > 1 || holds_key {
            return None;
        }
        let mut values = Zeroizing::new(Vec::with_capacity(bytes));
        let mut lines = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let is_secret = SECRETS.contains(name) || key.found_in(value.as_bytes());
            let compared = match *name == header::CONTENT_LENGTH {
                true => Compared::Never,
                false if is_secret => Compared::InConstantTime,
                false => Compared::Plainly,
            };
            values.extend_from_slice(value.as_bytes());
            lines.push(HeaderLine { name: name.clone(), length: value.len(), compared });
        }
        Some(Self {
            method: head.method.clone(),
            version: head.version,
            target: Target::of(&head.uri),
            lines: lines.into(),
            // The vector has no room to spare, so nothing is copied, and no copy of the key is left.
            values: Zeroizing::new(std::mem::take(&mut *values).into_boxed_slice()),
        })
    }

    fn is(&self, head: &request::Parts) -> bool {
        self.version == head.version
            && self.lines.len() == head.headers.len()
            && self.method == head.method
            && self.target.is(&head.uri)
            && self.has_lines(&head.headers)
    }

    fn has_lines(&self, headers: &HeaderMap) -> bool {
        let mut rest = &**self.values;
        self.lines.iter().zip(headers).all(|(line, (name, value))| {
            let Some((known, behind)) = rest.split_at_checked(line.length) else { return false };
            rest = behind;
            line.name == *name
                && match line.compared {
                    Compared::Plainly => *known == *value.as_bytes(),
                    Compared::InConstantTime => verify_slices_are_equal(known, value.as_bytes()).is_ok(),
                    Compared::Never => true,
                }
        })
    }
}

impl Target {
    fn of(uri: &Uri) -> Self {
        Self {
            scheme: uri.scheme_str().map(Into::into),
            authority: uri.authority().map(|authority| authority.as_str().into()),
            path_and_query: uri.path_and_query().map(|target| target.as_str().into()),
        }
    }

    fn is(&self, uri: &Uri) -> bool {
        self.path_and_query.as_deref() == uri.path_and_query().map(http::uri::PathAndQuery::as_str)
            && self.authority.as_deref() == uri.authority().map(http::uri::Authority::as_str)
            && self.scheme.as_deref() == uri.scheme_str()
    }
}

impl std::fmt::Debug for WrittenHead {
    /// Without the values, since one of them is the client's key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WrittenHead").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}
