//! The tables of the file.

use super::{
    Admin, Client, ClientDirectory, Defaults, ErrorTable, Group, Limit, Listener, Log, Model, Otlp, Pricing,
    Redis, Route, Server, Upstream,
};
use crate::config::declare::{Effect, Shape, described, keys, section};

keys! {
    /// The file as a whole. It is read by [`crate::config::check`], table by table.
    pub(crate) struct Root {
        listener = described(Shape::List(Box::new(Shape::Table(Listener::keys())))).required(),
            "Where clients connect: one `[[listener]]` table for each address.",
            { effect: Effect::Restart };
        admin = described(Shape::Table(Admin::keys())),
            "The operator's listener, which serves /healthz, /readyz, /metrics, /status, /limits, /config and the live page, /live. Without this table there is no such listener.",
            { effect: Effect::Restart };
        server = section::<Server>(), "The process and its client connections.";
        log = section::<Log>(), "Log lines, which go to stdout.";
        defaults = described(Shape::Table(Defaults::keys())),
            "Values that upstreams and routes inherit. An upstream may override each of them, key by key, and a route overrides its upstreams.";
        upstream = described(Shape::Named(Upstream::keys())).required(),
            "Providers: one `[upstream.NAME]` table for each pool of targets.";
        model = described(Shape::Named(Model::keys())),
            "Where the requests for a model go: one `[model.NAME]` table for each model, or `[model.\"BEGINNING*\"]` for all models whose \
             names begin so. A route uses these tables if its `model_tables` says so. An exact name wins over an alias, and an alias over \
             the longest beginning. A client's `models` are compared with the name of the table, also where an alias was used; with a table \
             for a beginning, they are compared with the name in the request.";
        route = described(Shape::Named(Route::keys())).required(),
            "Which requests go to which upstreams: one `[route.NAME]` table for each. When several routes match a request, a route with \
             `hosts` wins over one without, then the longest `path` wins, then a route with `methods` wins over one without.";
        group = described(Shape::Named(Group::keys())),
            "What several clients have in common: one `[group.NAME]` table for each group. A client belongs to it by its `group`.";
        limit = described(Shape::Named(Limit::keys())),
            "How much may be used: one `[limit.NAME]` table for each limit. A limit applies where `limits` of `[defaults]`, a group, a client, a \
             route or a model has its name. All limits that apply to a request must allow it.";
        pricing = described(Shape::Table(Pricing::keys())),
            "What the tokens of each model cost. With this table, the log and the metrics have the cost of each request, and a limit may be one on `cost`.",
            { since: "0.2.0" };
        redis = described(Shape::Table(Redis::keys())),
            "State that several gateways share, in Redis or Valkey: what they count for limits. Without this table the counts are this process' own.",
            { since: "0.2.0" };
        client = described(Shape::Named(Client::keys())),
            "Who may send requests: one `[client.NAME]` table for each client. `sluicegate key new NAME` creates a key, prints it once, and \
             prints the table to put here.";
        client_files = described(Shape::Table(ClientDirectory::keys())),
            "Clients that have files of their own, so that they are issued and revoked without a change of this file. A client is defined here or in \
             a file, not in both.",
            { since: "0.2.0" };
        otlp = described(Shape::Table(Otlp::keys())),
            "Traces, and metrics if wanted, exported by the OpenTelemetry protocol (OTLP over HTTP). Without this table nothing is exported, and the \
             variables $OTEL_EXPORTER_OTLP_* do nothing.",
            { since: "0.2.0" };
        error = described(Shape::List(Box::new(Shape::Table(ErrorTable::keys())))),
            "Errors in other words: one `[[error]]` table for each kind of error, of the gateway or of an upstream, that clients get with \
             another message, status or code. Applies to error responses, and not to error events within a stream. The log keeps the original.",
            { since: "0.2.0" };
    }
}
