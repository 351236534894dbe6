//! The gateway.toml of a test: what nearly all have in common is here, and a test adds lines to the tables it is about.

use std::fmt::{self, Display, Formatter};

use sluicegate::config::KeyHash;

use super::CLIENT_KEY;

/// A gateway.toml: a plain listener on a free port, the upstreams that are added, a route `main` from `/v1` to them in their order, and a
/// client `tester` that has [`CLIENT_KEY`].
#[derive(Clone)]
pub struct GatewayToml {
    listener: Lines,
    admin: Option<&'static str>,
    server: Lines,
    defaults: Lines,
    upstreams: Lines,
    /// The upstreams of the route; `None` if its lines name them.
    order: Option<Vec<String>>,
    route: Lines,
    /// `None` = no client.
    client: Option<Lines>,
    more: Lines,
}

/// Lines of one table.
#[derive(Clone, Default)]
struct Lines(String);

impl GatewayToml {
    pub fn new() -> Self {
        let key = format!("key = \"{}\"", KeyHash::of(CLIENT_KEY.as_bytes()));
        Self {
            listener: Lines::default(),
            admin: None,
            server: Lines::default(),
            defaults: Lines::default(),
            upstreams: Lines::default(),
            order: Some(Vec::new()),
            route: Lines::default(),
            client: Some(Lines::default().and(key)),
            more: Lines::default(),
        }
    }

    /// One upstream `sim` at this URL, which must be given the key of the simulators; `lines` are added to its table.
    pub fn before(url: &str, lines: impl Display) -> Self {
        Self::new().upstream("sim", url, lines)
    }

    /// Adds lines to `[[listener]]`.
    pub fn listener(mut self, lines: impl Display) -> Self {
        self.listener = self.listener.and(lines);
        self
    }

    /// Adds the operator's listener, on a free port.
    pub fn admin(self) -> Self {
        self.admin_at("127.0.0.1:0")
    }

    /// Adds the operator's listener.
    pub fn admin_at(mut self, address: &'static str) -> Self {
        self.admin = Some(address);
        self
    }

    /// Adds lines to `[server]`.
    pub fn server(mut self, lines: impl Display) -> Self {
        self.server = self.server.and(lines);
        self
    }

    /// Adds lines to `[defaults]`.
    pub fn defaults(mut self, lines: impl Display) -> Self {
        self.defaults = self.defaults.and(lines);
        self
    }

    /// Adds an upstream that must be given the key of the simulators.
    pub fn upstream(self, name: &str, url: &str, lines: impl Display) -> Self {
        self.upstream_of(name, format!("url = \"{url}\"\nkey = {{ env = \"UPSTREAM_KEY\" }}\n{lines}"))
    }

    /// Adds an upstream of which all lines are given.
    pub fn upstream_of(mut self, name: &str, lines: impl Display) -> Self {
        self.upstreams = self.upstreams.and(format!("[upstream.{name}]\n{lines}"));
        if let Some(order) = &mut self.order {
            order.push(format!("\"{name}\""));
        }
        self
    }

    /// Adds lines to `[route.main]`.
    pub fn route(mut self, lines: impl Display) -> Self {
        self.route = self.route.and(lines);
        self
    }

    /// Adds lines to `[route.main]`, and the route's `upstreams` is among them.
    pub fn route_to(mut self, lines: impl Display) -> Self {
        self.order = None;
        self.route(lines)
    }

    /// Adds lines to `[client.tester]`.
    pub fn client(mut self, lines: impl Display) -> Self {
        self.client = Some(self.client.unwrap_or_default().and(lines));
        self
    }

    /// Leaves `[client.tester]` out.
    pub fn without_client(mut self) -> Self {
        self.client = None;
        self
    }

    /// Adds lines to the end of the file.
    pub fn more(mut self, lines: impl Display) -> Self {
        self.more = self.more.and(lines);
        self
    }
}

impl Display for GatewayToml {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { listener, server, defaults, upstreams, route, more, .. } = self;
        writeln!(out, "[[listener]]\naddress = \"127.0.0.1:0\"\n{listener}")?;
        if let Some(address) = self.admin {
            writeln!(out, "[admin]\naddress = \"{address}\"")?;
        }
        writeln!(out, "[server]\n{server}[defaults]\n{defaults}{upstreams}[route.main]\npath = \"/v1\"")?;
        if let Some(order) = &self.order {
            writeln!(out, "upstreams = [{}]", order.join(", "))?;
        }
        write!(out, "{route}")?;
        if let Some(client) = &self.client {
            writeln!(out, "[client.tester]\n{client}")?;
        }
        write!(out, "{more}")
    }
}

impl Lines {
    fn and(mut self, lines: impl Display) -> Self {
        self.0 += &format!("{lines}\n");
        self
    }
}

impl Display for Lines {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
