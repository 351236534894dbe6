//! Which request goes where.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use http::Method;

use super::{Target, Upstream};
use crate::{
    config::{self, Commit, Delivery, Retry, Timeouts},
    policy::{Rules, path},
    upstream::BreakerPolicy,
};

/// Routes in the order in which they are tried.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

/// One `[route.NAME]`, compiled. Keys that need no compiling are read through it from the table as it was written
/// ([`config::Route`]): a new one needs no field here.
#[derive(Debug)]
pub struct Route {
    written: config::Route,
    /// NAME
    pub name: Arc<str>,
    /// Canonical prefix.
    pub prefix: String,
    /// What the prefix becomes.
    pub rewrite: String,
    /// Where its requests go, in the order in which they are asked; never empty.
    pub steps: Vec<Step>,
    /// How often a request is sent again.
    pub retry: Retry,
    /// A comment is put into a stream after so much silence.
    pub heartbeat: Option<Duration>,
    /// Bounds a whole exchange.
    pub total: Option<Duration>,
    /// What is done to a request's headers.
    pub request_headers: Rules,
    /// What is done to an answer's headers.
    pub response_headers: Rules,
}

/// One of the places that a route leads to.
#[derive(Debug)]
pub struct Step {
    /// The pool.
    pub upstream: Arc<Upstream>,
    /// The model to ask for there, instead of the request's own.
    pub model: Option<Arc<str>>,
    /// Its clocks, as this route has them.
    pub timeouts: Timeouts,
    /// When its targets' circuit breakers open; `None`: never.
    pub breaker: Option<BreakerPolicy>,
}

/// Why no route takes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// No route's host and prefix fit.
    Path,
    /// A prefix fits, its routes take other methods: these, for an `Allow` header.
    Method(String),
}

impl RouteTable {
    /// Orders the routes: those that name hosts before those that do not, then the longest prefix first, then those that name methods
    /// before those that do not.
    pub(super) fn compile(
        written: BTreeMap<Arc<str>, config::Route>,
        written_upstreams: &BTreeMap<Arc<str>, config::Upstream>,
        upstreams: &BTreeMap<Arc<str>, Arc<Upstream>>,
    ) -> Self {
        let mut routes: Vec<Arc<Route>> = written
            .into_iter()
            .filter_map(|(name, route)| {
                let first =
                    route.upstreams.first().and_then(|choice| written_upstreams.get(&choice.upstream))?;
                Some(Arc::new(Route::compile(name, route, first, written_upstreams, upstreams)))
            })
            .collect();
        routes.sort_by_key(|route| {
            (route.hosts.is_empty(), Reverse(route.prefix.len()), route.methods.is_empty())
        });
        Self { routes }
    }

    /// The route of a request; `host` in lower case, without a port.
    ///
    /// # Errors
    /// [`Miss`]: none takes it.
    pub fn find(&self, host: Option<&str>, method: &Method, path: &str) -> Result<&Arc<Route>, Miss> {
        let mut fitting = self.routes.iter().filter(|route| route.fits(host, path));
        let Some(first) = fitting.next() else { return Err(Miss::Path) };
        if first.takes(method) {
            return Ok(first);
        }
        // Another route of the same prefix and hosts may take this method; a shorter one is not asked.
        let same: Vec<_> = fitting
            .take_while(|route| {
                route.prefix == first.prefix && route.hosts.is_empty() == first.hosts.is_empty()
            })
            .collect();
        if let Some(route) = same.iter().find(|route| route.takes(method)) {
            return Ok(route);
        }
        let methods = same.into_iter().chain([first]).flat_map(|route| &route.methods);
        let mut allowed: Vec<&str> = methods.map(Method::as_str).collect();
        allowed.sort_unstable();
        allowed.dedup();
        Err(Miss::Method(allowed.join(", ")))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

impl Route {
    /// `first` is the first of its upstreams, from which it inherits.
    fn compile(
        name: Arc<str>,
        written: config::Route,
        first: &config::Upstream,
        written_upstreams: &BTreeMap<Arc<str>, config::Upstream>,
        upstreams: &BTreeMap<Arc<str>, Arc<Upstream>>,
    ) -> Self {
        let step = |choice: &config::Choice| {
            let upstream = upstreams.get(&choice.upstream)?.clone();
            let breaker = written.breaker.over(written_upstreams.get(&choice.upstream)?.breaker);
            let breaker =
                breaker.map(|breaker| BreakerPolicy { failures: breaker.failures, open: breaker.open });
            let timeouts = written.timeout.over(upstream.timeouts);
            Some(Step { upstream, model: choice.model.clone(), timeouts, breaker })
        };
        Self {
            name,
            steps: written.upstreams.iter().filter_map(step).collect(),
            retry: written.retry.over(first.retry),
            heartbeat: written.heartbeat.unwrap_or(first.heartbeat),
            total: written.timeout.over(first.timeout).total,
            rewrite: written.rewrite.clone().unwrap_or_else(|| written.path.clone()),
            prefix: written.path.clone(),
            request_headers: rules(&written.request_headers),
            response_headers: rules(&written.response_headers),
            written,
        }
    }

    /// Whether an event stream is held back until its first content: by default when there are `several` places to ask.
    pub fn holds(&self, several: bool) -> bool {
        match self.commit {
            Some(commit) => commit == Commit::FirstToken,
            None => several && self.retry.retries > 0,
        }
    }

    /// Whether an inference's answer is held until it is complete.
    pub fn is_whole(&self) -> bool {
        self.delivery == Delivery::Whole
    }

    /// What `path`, which is canonical and has led here, becomes at `target`.
    pub fn upstream_path<'p>(&self, path: &'p str, target: &Target) -> Option<Cow<'p, str>> {
        path::rewrite(path, &self.prefix, &self.rewrite, &target.base)
    }

    fn fits(&self, host: Option<&str>, path: &str) -> bool {
        let known =
            self.hosts.is_empty() || host.is_some_and(|host| self.hosts.iter().any(|own| own == host));
        known && path::matches(path, &self.prefix)
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

impl Deref for Route {
    type Target = config::Route;

    fn deref(&self) -> &config::Route {
        &self.written
    }
}

fn rules(written: &config::HeaderRules) -> Rules {
    let config::HeaderRules { set, remove, allow, only } = written.clone();
    Rules { set, remove, allow, only }
}
