//! Finds the route of a request.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use http::Method;

use super::{Target, Upstream, models::ModelIndex, upstreams::pairs};
use crate::{
    config::{self, Commit, Delivery, Retry, Timeouts},
    policy::{Rules, path},
    upstream::{Account, Affinity, BreakerPolicy},
};

/// The routes in the order in which they are matched.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

/// The tables of the file that make routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) routes: &'a BTreeMap<Arc<str>, config::Route>,
    pub(super) models: &'a BTreeMap<Arc<str>, config::Model>,
    pub(super) upstreams: &'a BTreeMap<Arc<str>, config::Upstream>,
}

/// One compiled `[route.NAME]`. Keys that need no compilation are read through `Deref` from the table as written
/// ([`config::Route`]): a new key needs no field here.
#[derive(Debug)]
pub struct Route {
    written: Arc<config::Route>,
    /// NAME
    pub name: Arc<str>,
    /// The canonical path prefix.
    pub prefix: String,
    /// The replacement for the prefix in the upstream path.
    pub rewrite: String,
    /// The upstreams of the route, in the order in which they are tried; never empty.
    pub steps: Vec<Step>,
    /// Whether its candidates belong to several accounts.
    pub has_several_accounts: bool,
    /// Which models have upstreams of their own; `None`: no `[model.NAME]` table concerns the route.
    pub models: Option<Box<ModelIndex>>,
    /// The retry limits.
    pub retry: Retry,
    /// Length of silence after which a comment is inserted into a stream.
    pub heartbeat: Option<Duration>,
    /// Time limit of a whole exchange.
    pub total: Option<Duration>,
    /// Rules for request headers.
    pub request_headers: Rules,
    /// Rules for response headers.
    pub response_headers: Rules,
}

/// One entry of a route's upstreams.
#[derive(Debug)]
pub struct Step {
    /// The upstream of this step.
    pub upstream: Arc<Upstream>,
    /// The model to send to this upstream instead of the request's own.
    pub model: Option<Arc<str>>,
    /// The upstream's timeouts with the overrides of this route.
    pub timeouts: Timeouts,
    /// The policy of its targets' circuit breakers; `None` when they never open.
    pub breaker: Option<BreakerPolicy>,
}

/// The reason why no route matches a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// No route matches the host and the path.
    Path,
    /// A prefix matches, but its routes accept only these methods, for an `Allow` header.
    Method(String),
}

impl RouteTable {
    /// The names of all routes.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.routes.iter().map(|route| &route.name)
    }

    /// The names of all routes, each with that of each of its upstreams.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routes
            .iter()
            .flat_map(|route| route.steps.iter().map(|step| (&*route.name, &*step.upstream.name)))
    }

    /// Compiles and orders the routes: routes with hosts before routes without, then the longest prefix first, then routes with methods
    /// before routes without.
    pub(super) fn compile(written: &Written<'_>, upstreams: &BTreeMap<Arc<str>, Arc<Upstream>>) -> Self {
        let route = |(name, route): (&Arc<str>, &config::Route)| {
            let compiler = RouteCompiler { name, route: Arc::new(route.clone()), written, upstreams };
            compiler.route().map(Arc::new)
        };
        let mut routes: Vec<Arc<Route>> = written.routes.iter().filter_map(route).collect();
        routes.sort_by_key(|route| {
            (route.hosts.is_empty(), Reverse(route.prefix.len()), route.methods.is_empty())
        });
        Self { routes }
    }

    /// Finds the route of a request; `host` is in lower case and has no port.
    ///
    /// # Errors
    /// [`Miss`] when no route matches.
    pub fn find(&self, host: Option<&str>, method: &Method, path: &str) -> Result<&Arc<Route>, Miss> {
        let mut fitting = self.routes.iter().filter(|route| route.fits(host, path));
        let Some(first) = fitting.next() else { return Err(Miss::Path) };
        if first.takes(method) {
            return Ok(first);
        }
        // Another route of the same prefix and hosts may accept this method; routes with a shorter prefix are not tried.
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

    /// Iterates over all routes in matching order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

impl Route {
    /// Whether an event stream is held back until its first content. The default is true when the route has `several` candidates.
    pub fn holds(&self, several: bool) -> bool {
        match self.commit {
            Some(commit) => commit == Commit::FirstToken,
            None => several && self.retry.retries > 0,
        }
    }

    /// Whether the response of an inference request is held until it is complete.
    pub fn is_whole(&self) -> bool {
        self.delivery == Delivery::Whole
    }

    /// Returns the path at `target` for the canonical `path`, which matched this route.
    pub fn upstream_path<'p>(&self, path: &'p str, target: &Target) -> Option<Cow<'p, str>> {
        path::rewrite(path, &self.prefix, &self.rewrite, &target.base)
    }

    /// The accounts that requests of `client` may belong to, each once, that of the rule first: in the order of the route's upstreams, and within one
    /// upstream by rendezvous hash, so that every process and every configuration with these accounts gives the same. All clients that are not
    /// known (`None`) have the same: their addresses change.
    pub fn accounts_of(&self, client: Option<&str>) -> Vec<Account> {
        let client = Affinity::of(client.unwrap_or_default().as_bytes());
        let value = client.and(b"\n").and(self.name.as_bytes());
        let mut accounts: Vec<Account> = Vec::new();
        for step in &self.steps {
            let mut own: Vec<&Account> = step.upstream.accounts().collect();
            own.sort_by(|a, b| a.distance(value).total_cmp(&b.distance(value)));
            for account in own {
                if !accounts.contains(account) {
                    accounts.push(account.clone());
                }
            }
        }
        accounts
    }

    /// The account of this name, if requests of the route may be sent to it.
    pub fn account(&self, name: &str) -> Option<&Account> {
        let mut accounts = self.steps.iter().flat_map(|step| step.upstream.accounts());
        accounts.find(|account| **account.name() == *name)
    }

    /// Whether requests may be sent to the upstream of this name, by the route itself or by a `[model.NAME]` table.
    pub fn leads_to(&self, upstream: &str) -> bool {
        let by_models =
            || self.models.iter().flat_map(|models| models.routes()).any(|route| route.leads_to(upstream));
        self.steps.iter().any(|step| *step.upstream.name == *upstream) || by_models()
    }

    /// The canonical `path`, which matched this route, as it decides which operation a request is.
    pub fn upstream_path_of<'p>(&self, path: &'p str) -> Cow<'p, str> {
        self.rewritten(path).unwrap_or_default()
    }

    /// The canonical `path`, which matched this route, with the route's prefix replaced.
    pub(super) fn rewritten<'p>(&self, path: &'p str) -> Option<Cow<'p, str>> {
        path::rewrite(path, &self.prefix, &self.rewrite, "")
    }

    /// Whether requests to `host` may match this route.
    pub fn serves_host(&self, host: Option<&str>) -> bool {
        self.hosts.is_empty() || host.is_some_and(|host| self.hosts.iter().any(|own| own == host))
    }

    fn fits(&self, host: Option<&str>, path: &str) -> bool {
        self.serves_host(host) && path::matches(path, &self.prefix)
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

/// Compiles one route.
#[derive(Debug)]
pub(super) struct RouteCompiler<'a> {
    name: &'a Arc<str>,
    route: Arc<config::Route>,
    pub(super) written: &'a Written<'a>,
    upstreams: &'a BTreeMap<Arc<str>, Arc<Upstream>>,
}

impl RouteCompiler<'_> {
    fn route(&self) -> Option<Route> {
        let models = ModelIndex::compile(&self.route, self);
        Some(Route { models: models.map(Box::new), ..self.with_upstreams(&self.route.upstreams)? })
    }

    /// The route with these upstreams in place of its own. It inherits from the first of them.
    pub(super) fn with_upstreams(&self, choices: &[config::Choice]) -> Option<Route> {
        let written = &self.route;
        let first = self.written.upstreams.get(&choices.first()?.upstream)?;
        let steps: Vec<Step> = choices.iter().filter_map(|choice| self.step(choice)).collect();
        Some(Route {
            name: self.name.clone(),
            has_several_accounts: has_several_accounts(&steps),
            steps,
            models: None,
            retry: written.retry.over(first.retry),
            heartbeat: written.heartbeat.unwrap_or(first.heartbeat),
            total: written.timeout.over(first.timeout).total,
            rewrite: written.rewrite.clone().unwrap_or_else(|| written.path.clone()),
            prefix: written.path.clone(),
            request_headers: rules(&written.request_headers),
            response_headers: rules(&written.response_headers),
            written: written.clone(),
        })
    }

    fn step(&self, choice: &config::Choice) -> Option<Step> {
        let upstream = self.upstreams.get(&choice.upstream)?.clone();
        let breaker = self.route.breaker.over(self.written.upstreams.get(&choice.upstream)?.breaker);
        let breaker = breaker.map(|breaker| BreakerPolicy { failures: breaker.failures, open: breaker.open });
        let timeouts = self.route.timeout.over(upstream.timeouts);
        Some(Step { upstream, model: choice.model.clone(), timeouts, breaker })
    }
}

fn has_several_accounts(steps: &[Step]) -> bool {
    let mut accounts = steps.iter().flat_map(|step| step.upstream.accounts());
    let first = accounts.next();
    accounts.any(|account| Some(account) != first)
}

fn rules(written: &config::HeaderRules) -> Rules {
    let config::HeaderRules { set, remove, allow, only } = written.clone();
    Rules { set: pairs(&set), remove, allow, only }
}
