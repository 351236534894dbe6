//! `check --as CLIENT`: what would become of a request?

use std::{fmt::Write as _, process::ExitCode, sync::Arc};

use http::Method;

use crate::{
    access::Caller,
    app::compile_with_client_files,
    config::Config,
    openai::{Kept, Need, NoDeployment},
    policy::path,
    snapshot::{AskedModel, CompileError, Miss, Route, Snapshot},
};

/// A request that is not sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// `[client.NAME]`
    pub(super) client: &'a str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    /// What stands behind `?`.
    pub(super) query: Option<&'a str>,
    pub(super) model: Option<&'a str>,
}

/// Why the request would not be sent upstream.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("there is no [client.{name}]; the clients are: {known}", known = .known.join(", "))]
    NoClient {
        /// The unknown name.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    #[error("{0} is not a valid path")]
    Path(String, #[source] path::PathProblem),
    #[error("no route matches {0}; the routes are: {1}")]
    NoRoute(String, String),
    #[error("no route takes {method} {path}: its methods are {allowed}")]
    Method {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
        /// The methods of the routes that match the path.
        allowed: String,
    },
    #[error("client `{client}` may not use route `{route}` (its `routes`)")]
    Route {
        /// The client's name.
        client: String,
        /// The route's name.
        route: String,
    },
    #[error("404 model_not_found: no [model] table of route `{route}` fits `{model}`{near}", near = similar(.near))]
    NoModel {
        /// The route's name.
        route: String,
        /// The model.
        model: String,
        /// Names that the client may use.
        near: Vec<String>,
    },
    #[error("client `{client}` may not use model `{model}` (its `models`)")]
    Model {
        /// The client's name.
        client: String,
        /// The model.
        model: String,
    },
}

fn similar(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; similar names: {}", near.join(", ")) }
}

/// Prints the route, the candidates in their order, and the URL that each would get. The code is 1 if the request would be refused.
pub(super) fn run(config: Config, request: &Request<'_>) -> ExitCode {
    let followed = compile_with_client_files(config)
        .map_err(Refused::from)
        .and_then(|(snapshot, _)| follow(&snapshot, request));
    match followed {
        Ok(text) => crate::cli::print(text),
        Err(refused) => crate::cli::fail(&refused),
    }
}

fn follow(snapshot: &Snapshot, request: &Request<'_>) -> Result<String, Refused> {
    let path = path::canonical(request.path).map_err(|why| Refused::Path(request.path.to_owned(), why))?;
    let route = route(snapshot, request, &path)?;
    let Some(caller) = snapshot.callers.by_name(request.client) else {
        let known = snapshot.callers.names().iter().map(ToString::to_string).collect();
        return Err(Refused::NoClient { name: request.client.to_owned(), known });
    };
    if !caller.may_use_route(&route.name) {
        return Err(Refused::Route { client: request.client.to_owned(), route: route.name.to_string() });
    }
    let configured = route.clone();
    let (route, table) = by_model(route, caller, request)?;
    let named = table.as_ref().map_or(request.model, |table| Some(&*table.counted));
    if let Some(model) = named.filter(|model| !caller.may_use_model(model)) {
        return Err(Refused::Model { client: request.client.to_owned(), model: model.to_owned() });
    }
    let hosts =
        if route.hosts.is_empty() { String::new() } else { format!(" at {}", route.hosts.join(", ")) };
    let mut text =
        format!("route      {} ({}{hosts})\nclient     {}\n", route.name, route.path, request.client);
    match request.model {
        Some(model) => {
            let by = table.map(|table| format!(" ([model.{:?}])", table.name)).unwrap_or_default();
            let _ = writeln!(text, "model      {model}{by}");
        }
        None => text.push_str("model      not given: --model NAME checks the client's `models`\n"),
    }
    text.push_str(&candidates(&route, request, &path));
    text.push_str(&account(&configured, &route, request, &path));
    Ok(text)
}

/// A `[model]` table that fits a request.
struct Table {
    name: Arc<str>,
    /// The name that the client's `models` are compared with.
    counted: String,
}

/// The route with the upstreams of the table that fits the request's model, if there is one.
fn by_model(
    route: Arc<Route>,
    caller: &Caller,
    request: &Request<'_>,
) -> Result<(Arc<Route>, Option<Table>), Refused> {
    let (Some(index), Some(model)) = (&route.models, request.model) else { return Ok((route, None)) };
    if let Some(found) = index.find(model) {
        let counted = index.counted_name(model).to_owned();
        let table = Table { name: found.table.clone(), counted };
        return Ok((found.route.clone(), Some(table)));
    }
    if !index.is_closed() {
        return Ok((route, None));
    }
    let near = index.nearest(model, |name| caller.may_use_model(name));
    Err(Refused::NoModel { route: route.name.to_string(), model: model.to_owned(), near })
}

/// The route of the path; a route with `hosts` is asked under its own, because the request names none.
fn route(snapshot: &Snapshot, request: &Request<'_>, path: &str) -> Result<Arc<Route>, Refused> {
    let found = snapshot.routes.find(None, &request.method, path);
    let hosts = snapshot.routes.iter().filter_map(|route| route.hosts.first());
    let mut under_hosts =
        hosts.filter_map(|host| snapshot.routes.find(Some(host), &request.method, path).ok());
    let found = found.or_else(|miss| under_hosts.next().ok_or(miss));
    found.cloned().map_err(|miss| match miss {
        Miss::Path => {
            let routes: Vec<&str> = snapshot.routes.iter().map(|route| route.path.as_str()).collect();
            Refused::NoRoute(path.to_owned(), routes.join(", "))
        }
        Miss::Method(allowed) => {
            Refused::Method { method: request.method.clone(), path: path.to_owned(), allowed }
        }
    })
}

/// The candidates in the order in which they are tried; targets of one upstream are balanced.
fn candidates(route: &Route, request: &Request<'_>, path: &str) -> String {
    let mut text = String::new();
    for (at, step) in route.steps.iter().enumerate() {
        let upstream = &step.upstream;
        let model = step.model.as_deref().or(request.model);
        let model = model.map(|model| format!(" for {model}")).unwrap_or_default();
        let keys = match upstream.keys.len() {
            0 => "no key".to_owned(),
            1 => "1 key".to_owned(),
            several => format!("{several} keys"),
        };
        let _ = writeln!(text, "candidate  {}. {}{model}, {keys}", at + 1, upstream.name);
        for target in upstream.targets() {
            let asked = AskedModel { own: step.model.as_deref(), named: request.model };
            let sent = match route.path_at(path, upstream, target, asked) {
                Ok(sent) => sent.unwrap_or_default(),
                Err(NoDeployment) => "/ (400: no deployment can have the name of the model)".into(),
            };
            let query = upstream.query(request.query).map(|query| format!("?{query}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "           {} {}{sent}{query}",
                request.method,
                origin(&target.url, &target.base)
            );
        }
    }
    text
}

/// The account that the request goes to, if the route has several and the request depends on what one of them keeps.
fn account(configured: &Route, route: &Route, request: &Request<'_>, path: &str) -> String {
    if !configured.has_several_accounts {
        return String::new();
    }
    let accounts = route.accounts_of(Some(request.client));
    let path = configured.upstream_path_of(path);
    let kept = Kept::of(&request.method, &path, request.query);
    let names: Vec<&str> = accounts.iter().map(|account| &**account.name()).collect();
    let Some(first) = names.first() else { return String::new() };
    let others = names.get(1..).unwrap_or_default().join(", ");
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    match kept.need {
        Need::None => String::new(),
        Need::Body | Need::MakesIfStored => {
            format!("account    any; {first}, if the body names an id or has `store: true`\n")
        }
        Need::Makes => format!("account    {first}; if it fails: {others}\n"),
        Need::Account if kept.ids.is_empty() => format!("account    {first}\n"),
        Need::Account if reads => {
            format!("account    the one that is known to have the id; else {first}, then: {others}\n")
        }
        Need::Account => format!("account    the one that is known to have the id; else {first}\n"),
    }
}

/// The URL without its base path, which is in the rewritten path.
fn origin<'a>(url: &'a str, base: &str) -> &'a str {
    url.strip_suffix(base).unwrap_or(url)
}
