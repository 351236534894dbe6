//! Which request goes where.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use http::Method;

use super::Upstream;
use crate::{
    config::{self, TimeoutOverrides, Timeouts},
    policy::{Rules, path},
};

/// Routes in the order in which they are tried.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

/// One `[route.NAME]`, compiled.
#[derive(Debug)]
pub struct Route {
    /// NAME
    pub name: Arc<str>,
    /// Canonical prefix.
    pub prefix: String,
    /// What the prefix becomes.
    pub rewrite: String,
    /// Hosts that it is for; empty: any.
    pub hosts: Vec<String>,
    /// Methods that it is for; empty: any.
    pub methods: Vec<Method>,
    /// Where its requests go.
    pub upstream: Arc<Upstream>,
    /// Whether it takes requests without a caller.
    pub open: bool,
    /// Of a JSON body, in bytes.
    pub body_limit: u64,
    /// Its clocks.
    pub timeouts: Timeouts,
    /// What is done to a request's headers.
    pub request_headers: Rules,
    /// What is done to an answer's headers.
    pub response_headers: Rules,
    /// Whether the upstream is told the caller's address.
    pub forward_address: bool,
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
    /// Orders the routes: those that name hosts before those that do not, then the longest prefix first.
    pub(super) fn compile(
        written: BTreeMap<Arc<str>, config::Route>,
        upstreams: &BTreeMap<Arc<str>, Arc<Upstream>>,
    ) -> Self {
        let mut routes: Vec<Arc<Route>> = written
            .into_iter()
            .filter_map(|(name, route)| {
                let upstream = route.upstreams.first().and_then(|name| upstreams.get(name))?;
                Some(Arc::new(Route::compile(name, route, upstream.clone())))
            })
            .collect();
        routes.sort_by_key(|route| (route.hosts.is_empty(), Reverse(route.prefix.len())));
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
    fn compile(name: Arc<str>, written: config::Route, upstream: Arc<Upstream>) -> Self {
        Self {
            name,
            rewrite: written.rewrite.unwrap_or_else(|| written.path.clone()),
            prefix: written.path,
            hosts: written.hosts,
            methods: written.methods,
            timeouts: overridden(upstream.timeouts, written.timeout),
            upstream,
            open: written.open,
            body_limit: written.body_limit,
            request_headers: rules(written.request_headers),
            response_headers: rules(written.response_headers),
            forward_address: written.forward_address,
        }
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

fn rules(written: config::HeaderRules) -> Rules {
    let config::HeaderRules { set, remove, allow, only } = written;
    Rules { set, remove, allow, only }
}

fn overridden(inherited: Timeouts, own: TimeoutOverrides) -> Timeouts {
    Timeouts {
        connect: own.connect.unwrap_or(inherited.connect),
        first_byte: own.first_byte.unwrap_or(inherited.first_byte),
        idle: own.idle.unwrap_or(inherited.idle),
        total: own.total.unwrap_or(inherited.total),
    }
}
