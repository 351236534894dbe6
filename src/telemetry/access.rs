//! The access line: one log line per exchange.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::{
    clock,
    pairs::{Key, Pairs, key},
};
use crate::{config::LogFormat, money::Money};

/// The fields of one exchange's access line, in the order in which they are written. A field that is `None` is omitted.
///
/// No field contains a query or a header value, which may contain a key, except ids. The ids have been searched for keys.
#[derive(Debug, Clone)]
pub struct AccessLine<'a> {
    /// Time at which the request arrived.
    pub time: SystemTime,
    /// The gateway's request id, as sent to the client in `x-request-id`.
    pub request_id: &'a str,
    /// The id of the trace that the request belongs to.
    pub trace_id: Option<&'a str>,
    /// The client's own name of the trace (`x-trace-id`), where `trace_id` is that of its `traceparent`.
    pub trace_name: Option<&'a str>,
    /// The trace id that was sent upstream, where `trace_id` is the client's own name of the trace.
    pub w3c_trace_id: Option<&'a str>,
    /// The client's own `x-request-id`.
    pub caller_request_id: Option<&'a str>,
    /// The client's own `x-client-request-id`.
    pub client_request_id: Option<&'a str>,
    /// The upstream's `x-request-id`.
    pub upstream_request_id: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// `[client.NAME]`
    pub caller: Option<&'a str>,
    /// `[group.NAME]` of the client.
    pub group: Option<&'a str>,
    /// The client's tags: names and values.
    pub tags: &'a [(Box<str>, Box<str>)],
    /// `[route.NAME]`
    pub route: Option<&'a str>,
    /// `[upstream.NAME]`
    pub upstream: Option<&'a str>,
    /// The target's base URL.
    pub target: Option<&'a str>,
    /// The protocol between the client and the gateway: `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Whether the client's connection uses TLS.
    pub tls: bool,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, without its query.
    pub path: &'a str,
    /// The requested model.
    pub model: Option<&'a str>,
    /// The model named in the response.
    pub response_model: Option<&'a str>,
    /// Whether a stream was requested.
    pub stream: Option<bool>,
    /// The status sent to the client, if any.
    pub status: Option<u16>,
    /// The party that ended the exchange.
    pub who: &'static str,
    /// The phase in which the exchange ended.
    pub phase: &'static str,
    /// Whether the upstream connection had served another exchange before.
    pub reused: Option<bool>,
    /// The attempts, if there was more than one or one failed.
    pub attempts: Vec<AttemptLine<'a>>,
    /// Time that the upstream connection took to open.
    pub connect: Option<Duration>,
    /// Time from the request to the first byte of the upstream's response.
    pub first_byte: Option<Duration>,
    /// Time from the request to the first token.
    pub first_token: Option<Duration>,
    /// Time from the request to the end of the response.
    pub total: Duration,
    /// The longest pause within the response.
    pub max_gap: Option<Duration>,
    /// Time that the gateway itself added.
    pub overhead: Option<Duration>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Data frames of the response.
    pub frames: u64,
    /// SSE events of the response.
    pub events: Option<u64>,
    /// Input tokens, as reported by the upstream.
    pub tokens_in: Option<u64>,
    /// Output tokens, as reported by the upstream.
    pub tokens_out: Option<u64>,
    /// Of `tokens_in`, those that came from the provider's cache.
    pub tokens_cached_input: Option<u64>,
    /// Of `tokens_in`, those that were written to the provider's cache.
    pub tokens_cache_write: Option<u64>,
    /// Of `tokens_out`, those of the model's reasoning.
    pub tokens_reasoning: Option<u64>,
    /// How long the request has waited in queues, if it did.
    pub queue: Option<Duration>,
    /// Its position when it first joined a queue, from 1.
    pub queue_position: Option<u64>,
    /// Name of the limit that refused the request, or would have if it did more than count.
    pub limit: Option<&'a str>,
    /// Where the token counts come from, if there are any.
    pub usage: Option<&'static str>,
    /// What the request has cost.
    pub cost: Option<Money>,
    /// What only a WebSocket connection has.
    pub tunnel: Option<TunnelLine>,
    /// The reason why the model stopped.
    pub finish_reason: Option<&'static str>,
    /// The error code sent to the client, or the code of a forwarded upstream error.
    pub error: Option<&'a str>,
    /// The cause of that error, for the operator.
    pub cause: Option<&'a str>,
}

/// The fields of a WebSocket connection in the access line.
#[derive(Debug, Clone, Copy)]
pub struct TunnelLine {
    /// Turns that have ended: responses of the model.
    pub turns: u64,
    /// Of `turns`, those that failed.
    pub turns_failed: u64,
    /// Frames from the client; `frames` are those to the client.
    pub frames_in: u64,
    /// The status code of the first close frame.
    pub close_code: Option<u16>,
}

/// The fields of one attempt in the access line. A field that is `None` is omitted.
#[derive(Debug, Clone)]
pub struct AttemptLine<'a> {
    /// `[upstream.NAME]`
    pub upstream: &'a str,
    /// The target's base URL.
    pub target: &'a str,
    /// Number of the upstream key in the order of the configuration, from 1.
    pub key: Option<usize>,
    /// The model sent upstream instead of the request's own.
    pub model: Option<&'a str>,
    /// The upstream's status.
    pub status: Option<u16>,
    /// The provider's own error code.
    pub code: Option<&'a str>,
    /// The result, with the metrics' label value.
    pub result: Option<&'static str>,
    /// Time from the request to the attempt's start.
    pub start: Duration,
    /// Time that the connection took to open.
    pub connect: Option<Duration>,
    /// Time from the attempt's start to the response head.
    pub head: Option<Duration>,
    /// Time from the attempt's start to the first content sent to the client.
    pub first_token: Option<Duration>,
    /// Time from the attempt's start to its end.
    pub total: Duration,
}

impl AttemptLine<'_> {
    fn write(&self, pairs: &mut Pairs<'_>) {
        pairs.text(key!("upstream"), self.upstream);
        pairs.text(key!("target"), self.target);
        number(pairs, key!("key"), self.key.map(|key| key as u64));
        text(pairs, key!("model"), self.model);
        number(pairs, key!("status"), self.status.map(u64::from));
        text(pairs, key!("code"), self.code);
        plain(pairs, key!("result"), self.result);
        millis(pairs, key!("start_ms"), Some(self.start));
        millis(pairs, key!("connect_ms"), self.connect);
        millis(pairs, key!("head_ms"), self.head);
        millis(pairs, key!("first_token_ms"), self.first_token);
        millis(pairs, key!("ms"), Some(self.total));
    }
}

impl AccessLine<'_> {
    /// Appends the line as a JSON object, without a line feed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write(Pairs::begin(out, LogFormat::Json));
    }

    /// Appends the line as `key=value` pairs, without a line feed; values are quoted when necessary.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        self.write(Pairs::begin(out, LogFormat::Text));
    }

    fn write(&self, mut pairs: Pairs<'_>) {
        self.write_origin(&mut pairs);
        self.write_request(&mut pairs);
        self.write_ending(&mut pairs);
        self.write_times(&mut pairs);
        self.write_counts(&mut pairs);
        pairs.end();
    }

    fn write_origin(&self, pairs: &mut Pairs<'_>) {
        pairs.plain(key!("time"), &clock::stamp(self.time));
        pairs.plain(key!("kind"), b"access");
        pairs.plain(key!("request_id"), self.request_id.as_bytes());
        plain(pairs, key!("trace_id"), self.trace_id);
        plain(pairs, key!("trace_name"), self.trace_name);
        plain(pairs, key!("w3c_trace_id"), self.w3c_trace_id);
        text(pairs, key!("caller_request_id"), self.caller_request_id);
        text(pairs, key!("client_request_id"), self.client_request_id);
        text(pairs, key!("upstream_request_id"), self.upstream_request_id);
        pairs.address(key!("client"), self.client);
        text(pairs, key!("caller"), self.caller);
        text(pairs, key!("group"), self.group);
        if !self.tags.is_empty() {
            pairs.object(key!("tags"), self.tags);
        }
        text(pairs, key!("route"), self.route);
        text(pairs, key!("upstream"), self.upstream);
        text(pairs, key!("target"), self.target);
    }

    fn write_request(&self, pairs: &mut Pairs<'_>) {
        pairs.plain(key!("protocol"), self.protocol.as_bytes());
        pairs.flag(key!("tls"), self.tls);
        pairs.text(key!("method"), self.method);
        pairs.text(key!("path"), self.path);
        text(pairs, key!("model"), self.model);
        text(pairs, key!("response_model"), self.response_model);
        flag(pairs, key!("stream"), self.stream);
    }

    fn write_ending(&self, pairs: &mut Pairs<'_>) {
        if let Some(status) = self.status {
            pairs.number(key!("status"), status);
        }
        pairs.plain(key!("who"), self.who.as_bytes());
        pairs.plain(key!("phase"), self.phase.as_bytes());
        flag(pairs, key!("reused"), self.reused);
        if !self.attempts.is_empty() {
            pairs.list(key!("attempts"), &self.attempts, AttemptLine::write);
        }
    }

    fn write_times(&self, pairs: &mut Pairs<'_>) {
        millis(pairs, key!("connect_ms"), self.connect);
        millis(pairs, key!("first_byte_ms"), self.first_byte);
        millis(pairs, key!("first_token_ms"), self.first_token);
        millis(pairs, key!("total_ms"), Some(self.total));
        millis(pairs, key!("max_gap_ms"), self.max_gap);
        millis(pairs, key!("queue_ms"), self.queue);
        number(pairs, key!("queue_position"), self.queue_position);
        millis(pairs, key!("overhead_ms"), self.overhead);
    }

    fn write_counts(&self, pairs: &mut Pairs<'_>) {
        number(pairs, key!("bytes_in"), Some(self.bytes_in));
        number(pairs, key!("bytes_out"), Some(self.bytes_out));
        number(pairs, key!("frames"), Some(self.frames));
        number(pairs, key!("events"), self.events);
        number(pairs, key!("tokens_in"), self.tokens_in);
        number(pairs, key!("tokens_out"), self.tokens_out);
        number(pairs, key!("tokens_cached_input"), self.tokens_cached_input);
        number(pairs, key!("tokens_cache_write"), self.tokens_cache_write);
        number(pairs, key!("tokens_reasoning"), self.tokens_reasoning);
        plain(pairs, key!("usage"), self.usage);
        if let Some(cost) = self.cost {
            pairs.plain(key!("cost"), cost.to_string().as_bytes());
        }
        text(pairs, key!("limit"), self.limit);
        if let Some(tunnel) = &self.tunnel {
            number(pairs, key!("turns"), Some(tunnel.turns));
            number(pairs, key!("turns_failed"), Some(tunnel.turns_failed));
            number(pairs, key!("frames_in"), Some(tunnel.frames_in));
            number(pairs, key!("close_code"), tunnel.close_code.map(u64::from));
        }
        plain(pairs, key!("finish_reason"), self.finish_reason);
        text(pairs, key!("error"), self.error);
        text(pairs, key!("cause"), self.cause);
    }
}

fn text(pairs: &mut Pairs<'_>, key: Key, value: Option<&str>) {
    if let Some(value) = value {
        pairs.text(key, value);
    }
}

/// Writes a value that needs no escaping: ids consist of letters, digits, `_` and `-`, and the other values are constants.
fn plain(pairs: &mut Pairs<'_>, key: Key, value: Option<&str>) {
    if let Some(value) = value {
        pairs.plain(key, value.as_bytes());
    }
}

fn flag(pairs: &mut Pairs<'_>, key: Key, value: Option<bool>) {
    if let Some(value) = value {
        pairs.flag(key, value);
    }
}

fn number(pairs: &mut Pairs<'_>, key: Key, value: Option<u64>) {
    if let Some(value) = value {
        pairs.number(key, value);
    }
}

fn millis(pairs: &mut Pairs<'_>, key: Key, value: Option<Duration>) {
    if let Some(value) = value {
        pairs.millis(key, value);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::UNIX_EPOCH};

    use super::*;

    fn least() -> AccessLine<'static> {
        AccessLine {
            time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            request_id: "req_1",
            trace_id: None,
            trace_name: None,
            w3c_trace_id: None,
            caller_request_id: None,
            client_request_id: None,
            upstream_request_id: None,
            client: Ipv4Addr::LOCALHOST.into(),
            caller: None,
            group: None,
            tags: &[],
            route: None,
            upstream: None,
            target: None,
            protocol: "HTTP/1.1",
            tls: false,
            method: "GET",
            path: "/v1/models",
            model: None,
            response_model: None,
            stream: None,
            status: None,
            who: "caller",
            phase: "head",
            reused: None,
            attempts: Vec::new(),
            connect: None,
            first_byte: None,
            first_token: None,
            total: Duration::from_micros(12_345),
            max_gap: None,
            overhead: None,
            bytes_in: 0,
            bytes_out: 0,
            frames: 0,
            events: None,
            tokens_in: None,
            tokens_out: None,
            tokens_cached_input: None,
            tokens_cache_write: None,
            tokens_reasoning: None,
            cost: None,
            usage: None,
            queue: None,
            queue_position: None,
            limit: None,
            tunnel: None,
            finish_reason: None,
            error: None,
            cause: None,
        }
    }

    #[test]
    fn tags_are_an_object_in_both_formats() {
        let tags = [("cost-center".into(), "4711".into()), ("team".into(), "a \"b\"\u{1b}".into())];
        let line = || AccessLine { caller: Some("a"), group: Some("research"), tags: &tags, ..least() };
        let json = written(|out| line().write_json(out));
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["group"], "research");
        assert_eq!(read["tags"], serde_json::json!({ "cost-center": "4711", "team": "a \"b\"\u{1b}" }));
        let text = written(|out| line().write_text(out));
        assert!(text.contains(r#"group=research tags="{\"cost-center\":\"4711\","#), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    fn whole() -> AccessLine<'static> {
        AccessLine {
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            trace_name: Some("job-7"),
            caller_request_id: Some("mine\"1"),
            client_request_id: Some("mine-2"),
            upstream_request_id: Some("req_up"),
            client: "2001:db8::1".parse().unwrap(),
            caller: Some("team-a"),
            route: Some("openai"),
            upstream: Some("openai"),
            target: Some("https://api.openai.com"),
            protocol: "HTTP/2",
            tls: true,
            method: "POST",
            path: "/v1/chat/completions",
            model: Some("gpt \"4o\""),
            response_model: Some("gpt-4o"),
            stream: Some(true),
            status: Some(200),
            reused: Some(false),
            attempts: Vec::new(),
            connect: Some(Duration::from_millis(5)),
            first_byte: Some(Duration::from_micros(6001)),
            first_token: Some(Duration::from_secs(2)),
            max_gap: Some(Duration::from_nanos(999)),
            overhead: Some(Duration::from_micros(85)),
            bytes_in: 1,
            bytes_out: 2,
            frames: 3,
            events: Some(4),
            tokens_in: Some(5),
            tokens_out: Some(6),
            tokens_cached_input: Some(4),
            tokens_cache_write: Some(0),
            tokens_reasoning: Some(2),
            cost: Money::parse("0.0125").ok(),
            usage: Some("reported"),
            queue: Some(Duration::from_millis(3)),
            queue_position: Some(2),
            limit: Some("fair-use"),
            finish_reason: Some("stop"),
            error: Some("upstream_closed"),
            ..least()
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_of_little() {
        assert_eq!(
            written(|out| least().write_json(out)),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123Z","kind":"access","request_id":"req_1","client":"127.0.0.1","#,
                r#""protocol":"HTTP/1.1","tls":false,"method":"GET","path":"/v1/models","who":"caller","phase":"head","#,
                r#""total_ms":12.345,"bytes_in":0,"bytes_out":0,"frames":0}"#,
            )
        );
    }

    #[test]
    fn json_of_everything_in_order() {
        assert_eq!(
            written(|out| whole().write_json(out)),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123Z","kind":"access","request_id":"req_1","#,
                r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","trace_name":"job-7","caller_request_id":"mine\"1","#,
                r#""client_request_id":"mine-2","upstream_request_id":"req_up","client":"2001:db8::1","#,
                r#""caller":"team-a","route":"openai","upstream":"openai","target":"https://api.openai.com","#,
                r#""protocol":"HTTP/2","tls":true,"method":"POST","path":"/v1/chat/completions","model":"gpt \"4o\"","#,
                r#""response_model":"gpt-4o","stream":true,"status":200,"who":"caller","phase":"head","reused":false,"#,
                r#""connect_ms":5.000,"first_byte_ms":6.001,"first_token_ms":2000.000,"total_ms":12.345,"#,
                r#""max_gap_ms":0.000,"queue_ms":3.000,"queue_position":2,"overhead_ms":0.085,"bytes_in":1,"bytes_out":2,"frames":3,"events":4,"tokens_in":5,"tokens_out":6,"#,
                r#""tokens_cached_input":4,"tokens_cache_write":0,"tokens_reasoning":2,"usage":"reported","cost":"0.0125","limit":"fair-use","#,
                r#""finish_reason":"stop","error":"upstream_closed"}"#,
            )
        );
    }

    #[test]
    fn text_has_the_same_pairs() {
        let text = written(|out| whole().write_text(out));
        assert!(
            text.starts_with("time=2023-11-14T22:13:20.123Z kind=access request_id=req_1 trace_id="),
            "{text}"
        );
        assert!(
            text.contains(r#" model="gpt \"4o\"" response_model=gpt-4o stream=true status=200 "#),
            "{text}"
        );
        let json = written(|out| whole().write_json(out));
        let pairs = serde_json::from_str::<serde_json::Map<_, _>>(&json).unwrap();
        for key in pairs.keys() {
            assert!(format!(" {text}").contains(&format!(" {key}=")), "{key} is missing in {text}");
        }
    }

    #[test]
    fn a_hostile_path_stays_one_bounded_value() {
        let path = format!("/\n{{\"who\":\"me\"}}{}", "x".repeat(5000));
        let line = written(|out| AccessLine { path: &path, ..least() }.write_json(out));
        assert!(!line.contains('\n') && line.len() < 1500);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["path"], path[..1024]);
        assert_eq!(value["who"], "caller");
    }

    #[test]
    fn attempts_are_a_list_in_both_formats() {
        let attempt = |status: Option<u16>, code| AttemptLine {
            upstream: "openai",
            target: "https://a",
            key: Some(2),
            model: None,
            status,
            code,
            result: Some("5xx"),
            start: Duration::from_micros(250),
            connect: None,
            head: Some(Duration::from_micros(1500)),
            first_token: None,
            total: Duration::from_millis(2),
        };
        let attempts = vec![attempt(Some(503), Some("over\"loaded")), attempt(None, None)];
        let line = AccessLine { attempts, ..least() };
        let mut json = Vec::new();
        line.write_json(&mut json);
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let expected = serde_json::json!({
            "upstream": "openai", "target": "https://a", "key": 2, "status": 503, "code": "over\"loaded",
            "result": "5xx", "start_ms": 0.25, "head_ms": 1.5, "ms": 2.0,
        });
        assert_eq!(read["attempts"][0], expected);
        assert_eq!(read["attempts"][1].get("status"), None);
        let mut text = Vec::new();
        line.write_text(&mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#" attempts="[{\"upstream\":\"openai\","#), "{text}");
    }
}
