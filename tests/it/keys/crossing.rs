//! Keys in generated places: whatever holds one does not cross, and whatever does not hold one is not touched.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestCaseResult};
use serde_json::json;
use sluicegate::simulator::{Framing, Head, Script, Step};

use super::{
    forms::{Form, form},
    rig::{CLIENT_KEYS, UPSTREAM_KEYS, everything, holds_none, run, streamed},
};

/// Above this an upstream's error body is not checked, and not passed on.
const MOST_ERROR_BYTES: usize = 256 << 10;

/// What the fields of a request or an answer hold, made for one side's keys.
#[derive(Debug, Clone)]
struct Field {
    name: String,
    value: String,
    /// Whether there is a key in it.
    tainted: bool,
}

/// Which key, in which form, with what around it.
#[derive(Debug, Clone)]
struct Planted {
    key: Index,
    form: Form,
    inside: (String, String),
    outside: (String, String),
}

fn planted() -> impl Strategy<Value = Planted> {
    let inside = ("[A-Za-z0-9:._-]{0,7}", "[A-Za-z0-9:._-]{0,7}");
    let outside = ("([a-z]{1,6}[ ,;=.])?", "([ ,;=.][a-z]{1,6})?");
    (any::<Index>(), form(), inside, outside).prop_map(|(key, form, inside, outside)| Planted {
        key,
        form,
        inside,
        outside,
    })
}

impl Planted {
    fn write(&self, keys: &[&str]) -> String {
        let (before, after) = &self.inside;
        let (left, right) = &self.outside;
        format!("{left}{}{right}", self.form.write(self.key.get::<&str>(keys), before, after))
    }

    /// For a field's name, which is of few signs and in lower case.
    fn in_name(&self, key: &str) -> String {
        let is_token = key.parse::<HeaderName>().is_ok();
        let form = match self.form {
            Form::Plain if is_token => Form::Plain,
            Form::Percent(mix) if is_token => Form::Percent(mix),
            Form::TwicePercent(mix) if is_token => Form::TwicePercent(mix),
            Form::Percent(_) => Form::Percent(u64::MAX),
            Form::TwicePercent(mix) => Form::TwicePercent(mix | u64::MAX >> 1),
            _ => Form::Base64Unpadded,
        };
        form.write(key, "", "").to_ascii_lowercase()
    }

    fn in_query(&self, keys: &[&str]) -> String {
        self.write(keys).replace(' ', "%20")
    }
}

/// Field lines with names of their own, some with one of `keys`.
fn fields(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<Field>> {
    let ordinary =
        prop_oneof!["[!-~]([ -~]{0,40}[!-~])?", "[A-Za-z0-9+/]{40,60}={0,2}", "(%[0-9A-F]{2}|[a-z]){1,30}"];
    let field = prop_oneof![
        5 => ordinary.prop_map(|value| ("f".to_owned(), value, false)),
        4 => planted().prop_map(|planted| ("f".to_owned(), planted.write(keys), true)),
        1 => planted().prop_map(|planted| (planted.in_name(keys[0]), "x".to_owned(), true)),
    ];
    vec(field, 0..7).prop_map(|fields| {
        let number = |(at, (name, value, tainted))| Field { name: format!("x-{at}-{name}"), value, tainted };
        fields.into_iter().enumerate().map(number).collect()
    })
}

/// Query pairs, some with one of the caller's keys.
fn query(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<Field>> {
    let pair = prop_oneof![
        3 => "(%[0-9A-F]{2}|[a-zA-Z0-9+/?:@._~-]){0,20}".prop_map(|value| ("q".to_owned(), value, false)),
        2 => planted().prop_map(|planted| ("q".to_owned(), planted.in_query(keys), true)),
        1 => planted().prop_map(|planted| (planted.in_query(keys).replace('=', "%3d"), "v".to_owned(), true)),
    ];
    vec(pair, 0..5).prop_map(|pairs| {
        let number = |(at, (name, value, tainted))| Field { name: format!("{at}{name}"), value, tainted };
        pairs.into_iter().enumerate().map(number).collect()
    })
}

fn header_map(fields: &[Field]) -> HeaderMap {
    let line = |field: &Field| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(field.value.as_bytes()).unwrap())
    };
    fields.iter().map(line).collect()
}

fn names(fields: &[Field]) -> HeaderValue {
    let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
    HeaderValue::from_str(&names.join(", ")).unwrap()
}

/// That each field without a key is there as it was, and no other.
fn only_clean(sent: &[Field], arrived: &HeaderMap) -> TestCaseResult {
    for field in sent {
        let lines: Vec<_> = arrived.get_all(field.name.as_str()).iter().map(HeaderValue::as_bytes).collect();
        let expected: &[&[u8]] = if field.tainted { &[] } else { &[field.value.as_bytes()] };
        prop_assert_eq!(&lines, expected, "{:?}", field);
    }
    Ok(())
}

/// How the caller shows who it is.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Bearer,
    XApiKey,
    ApiKey,
    Everywhere,
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![Just(Shown::Bearer), Just(Shown::XApiKey), Just(Shown::ApiKey), Just(Shown::Everywhere)]
}

impl Shown {
    fn headers(self, key: &str) -> Vec<(&'static str, String)> {
        let bearer = ("authorization", format!("Bearer {key}"));
        let x_api_key = ("x-api-key", key.to_owned());
        let api_key = ("api-key", key.to_owned());
        match self {
            Self::Bearer => vec![bearer],
            Self::XApiKey => vec![x_api_key],
            Self::ApiKey => vec![api_key],
            Self::Everywhere => {
                let google = ("x-goog-api-key", key.to_owned());
                let browser = ("sec-websocket-protocol", format!("realtime, openai-insecure-api-key.{key}"));
                vec![bearer, x_api_key, api_key, google, browser]
            }
        }
    }
}

/// A request with the key of its caller all over it.
#[derive(Debug)]
struct Asked {
    key: &'static str,
    shown: Shown,
    headers: Vec<Field>,
    query: Vec<Field>,
    trailers: Vec<Field>,
}

fn asked() -> impl Strategy<Value = Asked> {
    (0..CLIENT_KEYS.len()).prop_flat_map(|key| {
        // Only the one that is presented is known to be a key.
        let keys = &CLIENT_KEYS[key..=key];
        (shown(), fields(keys), query(keys), fields(keys)).prop_map(
            move |(shown, headers, query, trailers)| Asked {
                key: keys[0],
                shown,
                headers,
                query,
                trailers: renamed(trailers),
            },
        )
    })
}

/// Trailers whose names are not those of headers.
fn renamed(fields: Vec<Field>) -> Vec<Field> {
    fields.into_iter().map(|field| Field { name: format!("t{}", field.name), ..field }).collect()
}

#[test]
fn the_callers_key_does_not_reach_the_upstream() {
    run(500, &asked(), &async |rig, asked| {
        let pairs = |tainted: bool| asked.query.iter().filter(move |pair| tainted || !pair.tainted);
        let joined = |tainted| {
            pairs(tainted).map(|pair| format!("{}={}", pair.name, pair.value)).collect::<Vec<_>>().join("&")
        };
        let target = |query: String| {
            if query.is_empty() { "/v1/files".to_owned() } else { format!("/v1/files?{query}") }
        };
        let mut request = rig.request("POST", &target(joined(true))).header("content-type", "text/plain");
        for (name, value) in asked.shown.headers(asked.key) {
            request = request.header(name, value);
        }
        request.headers_mut().unwrap().extend(header_map(&asked.headers));
        let trailers = (!asked.trailers.is_empty()).then(|| header_map(&asked.trailers));
        if trailers.is_some() {
            request = request.header("trailer", names(&asked.trailers));
        }
        let body = ["a body ", "in two parts"].map(|part| Bytes::from_static(part.as_bytes()));
        let answer = vec![Step::Head(Head::json(StatusCode::OK, 2)), Step::Send(Bytes::from_static(b"{}"))];

        let (arrived, given) =
            rig.exchange(request.body(streamed(body, trailers)).unwrap(), Script::new(answer)).await;

        prop_assert_eq!(given.answer.status, 200, "{:?}", given.answer);
        let arrived = arrived.unwrap();
        holds_none(&everything(&arrived), CLIENT_KEYS)?;
        holds_none(&given.everything(), UPSTREAM_KEYS)?;
        only_clean(&asked.headers, &arrived.headers)?;
        only_clean(&asked.trailers, &arrived.trailers)?;
        prop_assert_eq!(&arrived.target, &target(joined(false)));
        prop_assert_eq!(&arrived.body[..], b"a body in two parts");
        let ours =
            arrived.headers.get_all("authorization").iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let key = ours.first().and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        prop_assert!(ours.len() == 1 && UPSTREAM_KEYS.iter().any(|own| own.as_bytes() == key), "{:?}", ours);
        Ok(())
    });
}

/// An answer with the upstream's keys all over its head and trailers.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: Vec<Field>,
    trailers: Vec<Field>,
    /// Of the upstream's request id.
    id: Field,
}

fn answered() -> impl Strategy<Value = Answered> {
    let status = prop::sample::select(vec![200u16, 200, 200, 206, 302, 404, 429, 503]);
    let id = prop_oneof![
        "[!-~]{1,40}".prop_map(|id| (id, false)),
        planted().prop_map(|key| (key.write(&UPSTREAM_KEYS), true))
    ];
    let id = id.prop_map(|(value, tainted)| Field { name: "x-request-id".to_owned(), value, tainted });
    (status, fields(&UPSTREAM_KEYS), fields(&UPSTREAM_KEYS), id).prop_map(
        |(status, headers, trailers, id)| Answered { status, headers, trailers: renamed(trailers), id },
    )
}

#[test]
fn the_upstreams_key_does_not_reach_the_caller_in_a_head_or_trailers() {
    run(500, &answered(), &async |rig, answered| {
        let mut head =
            Head::new(StatusCode::from_u16(answered.status).unwrap(), "text/plain", Framing::Chunked);
        head.headers.extend(header_map(&answered.headers));
        head.headers.extend(header_map(std::slice::from_ref(&answered.id)));
        let mut script = vec![];
        if !answered.trailers.is_empty() {
            head.headers.insert("trailer", names(&answered.trailers));
        }
        script.extend([Step::Head(head), Step::Send(Bytes::from_static(b"an answer"))]);
        if !answered.trailers.is_empty() {
            script.push(Step::Trailers(header_map(&answered.trailers)));
        }
        let request = rig
            .request("GET", "/v1/files/x/content")
            .header("x-api-key", CLIENT_KEYS[0])
            .header("te", "trailers");

        let (arrived, given) =
            rig.exchange(request.body(streamed([], None)).unwrap(), Script::new(script)).await;

        holds_none(&everything(&arrived.unwrap()), CLIENT_KEYS)?;
        holds_none(&given.everything(), UPSTREAM_KEYS)?;
        let answer = given.answer;
        prop_assert!(answer.whole && answer.status == answered.status, "{:?}", answer);
        prop_assert_eq!(&answer.body[..], b"an answer");
        only_clean(&answered.headers, &answer.headers)?;
        if answered.status < 400 {
            // An error's body is read before it is passed on, without what trails it.
            only_clean(&answered.trailers, &answer.trailers.unwrap_or_default())?;
        }
        let upstream_id = answer.headers.get("x-upstream-request-id").map(HeaderValue::as_bytes);
        prop_assert_eq!(upstream_id, (!answered.id.tainted).then_some(answered.id.value.as_bytes()));
        let ours = answer.headers.get_all("x-request-id").iter().collect::<Vec<_>>();
        prop_assert!(ours.len() == 1 && *ours[0] != *answered.id.value, "{:?}", ours);
        Ok(())
    });
}

/// An error answer of the upstream, with a key of the upstream in its body or without one.
#[derive(Debug)]
struct Refused {
    status: u16,
    body: Bytes,
    json: bool,
    planted: Option<String>,
    framing: Framing,
    parts: usize,
}

fn refused() -> impl Strategy<Value = Refused> {
    let status = prop::sample::select(vec![
        400u16, 401, 403, 404, 408, 409, 413, 422, 429, 451, 500, 502, 503, 504, 529,
    ]);
    let size = prop_oneof![
        12 => 0..3000usize,
        1 => MOST_ERROR_BYTES - 300..MOST_ERROR_BYTES + 300,
        1 => MOST_ERROR_BYTES + 1..MOST_ERROR_BYTES + 70_000
    ];
    let planted = prop::option::of((planted(), any::<Index>()));
    let framing = prop_oneof![Just(Framing::Known(0)), Just(Framing::Chunked), Just(Framing::Close)];
    (status, size, planted, framing, 1..4usize, any::<(bool, bool)>()).prop_map(
        |(status, size, planted, framing, parts, (json, about_a_model))| {
            // Nor may one be too large to be read.
            let size = if status == 401 { size.min(3000) } else { size };
            let mut text = "Some text: 100% and \"more\". ".repeat(size / 30);
            let planted = planted.map(|(planted, at)| (format!(" {} ", planted.write(&UPSTREAM_KEYS)), at));
            if let Some((planted, at)) = &planted {
                text.insert_str(at.index(text.len() + 1), planted);
            }
            // What is said about the whole key would put it into cooldown for the next one.
            let json = json || status == 401;
            let (param, code) = (about_a_model.then_some("model"), (status == 401).then_some("missing_scope"));
            let body = if json {
                json!({"error": {"message": text, "type": "invalid_request_error", "param": param, "code": code}})
                    .to_string()
            } else {
                text
            };
            let framing = if framing == Framing::Known(0) { Framing::Known(body.len() as u64) } else { framing };
            let planted = planted.map(|(planted, _)| planted);
            Refused { status, body: body.into(), json, planted, framing, parts }
        },
    )
}

impl Refused {
    fn script(&self) -> Script {
        let kind = if self.json { "application/json" } else { "text/plain; charset=utf-8" };
        let mut head = Head::new(StatusCode::from_u16(self.status).unwrap(), kind, self.framing);
        head.headers.insert("retry-after", HeaderValue::from_static("7"));
        let parts = self.body.chunks(self.body.len() / self.parts + 1).map(Bytes::copy_from_slice);
        Script::new([Step::Head(head)].into_iter().chain(parts.map(Step::Send)).collect())
    }

    /// What the caller is to be given: a status, and the code of the gateway's own error unless the upstream's goes on.
    fn expected(&self) -> (u16, Option<&'static str>) {
        let dubious = self.planted.is_some() || self.body.len() > MOST_ERROR_BYTES;
        match self.status {
            401 => (503, Some("upstream_unavailable")),
            status if dubious => (status, Some("upstream_error_withheld")),
            status => (status, None),
        }
    }
}

#[test]
fn the_upstreams_key_does_not_reach_the_caller_in_an_errors_body() {
    run(500, &refused(), &async |rig, refused| {
        let request = rig.request("GET", "/v1/models").header("x-api-key", CLIENT_KEYS[1]);
        let (_, given) = rig.exchange(request.body(streamed([], None)).unwrap(), refused.script()).await;

        let (status, code) = refused.expected();
        let answer = &given.answer;
        prop_assert!(
            answer.whole && answer.status == status,
            "{} {}: {:?}",
            status,
            refused.body.len(),
            answer
        );
        let length = answer.headers.get("content-length").map(HeaderValue::as_bytes);
        prop_assert!(
            length.is_none_or(|length| length == answer.body.len().to_string().as_bytes()),
            "{:?}",
            length
        );
        if let Some(code) = code {
            holds_none(&given.everything(), UPSTREAM_KEYS)?;
            prop_assert_eq!(&answer.json()["error"]["code"], code);
            if code == "upstream_unavailable" {
                prop_assert_eq!(&answer.headers["x-should-retry"], "false");
            }
        } else {
            prop_assert!(answer.body == refused.body, "the body has changed");
            prop_assert_eq!(&answer.headers["retry-after"], "7");
        }
        Ok(())
    });
}
