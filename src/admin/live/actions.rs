//! What an operator may do on the live page: cancel a request, open or close a circuit breaker, drain.
//!
//! Only with `admin.actions`, which needs a token. The request must come from no page or from the listener's own: the token is not a cookie, so
//! no other page could send it, and this holds even if it could.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::text;
use crate::{
    admin::{AdminState, body::AdminBody},
    body::Cut,
    span,
};

/// How long the workers may take to find a request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long a circuit breaker stays open, if the request does not say.
const USUAL_SPAN: Duration = Duration::from_secs(600);

/// The longest time for which an operator may open a circuit breaker.
const LONGEST_SPAN: Duration = Duration::from_secs(86_400);

/// An action, by its path behind `/live/`.
#[derive(Debug, PartialEq, Eq)]
enum Action<'a> {
    /// `requests/ID/cancel`
    Cancel(&'a str),
    /// `upstreams/NAME/open?url=URL` or `close`, of the target with this URL. Its number would be another target's after a reload.
    Circuit { upstream: &'a str, open: bool },
    /// `drain`
    Drain,
}

impl<'a> Action<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        match *parts {
            ["drain"] => Some(Self::Drain),
            ["requests", id, "cancel"] => Some(Self::Cancel(id)),
            ["upstreams", upstream, to] if matches!(to, "open" | "close") => {
                Some(Self::Circuit { upstream, open: to == "open" })
            }
            _ => None,
        }
    }
}

impl AdminState {
    /// Does what the path behind `/live/` says.
    pub(super) async fn act<B>(&self, request: &Request<B>, path: &str) -> Response<AdminBody> {
        if !self.gateway.live.load().admin_actions {
            return text(
                StatusCode::FORBIDDEN,
                "actions are off: set admin.actions = true, which also needs admin.token\n",
            );
        }
        if !is_of_own_page(request.headers()) {
            return text(
                StatusCode::FORBIDDEN,
                "origin not allowed: actions of other web pages are refused\n",
            );
        }
        let Some(action) = Action::of(path) else {
            return text(StatusCode::NOT_FOUND, "no such action\n");
        };
        match action {
            Action::Cancel(id) => self.cancel(id).await,
            Action::Circuit { upstream, open } => {
                let query = request.uri().query();
                self.switch_circuit(upstream, query, open.then(|| span_of(query)))
            }
            Action::Drain => {
                tracing::warn!("drain requested by the operator");
                self.drain.notify_one();
                text(StatusCode::ACCEPTED, "drain started\n")
            }
        }
    }

    async fn cancel(&self, id: &str) -> Response<AdminBody> {
        let wanted = id.to_owned();
        let found = self.workers.ask(TIMEOUT, move |view| view.cut(&wanted, Cut::Operator)).await;
        if !found.contains(&Some(true)) {
            return text(StatusCode::NOT_FOUND, "no open request has this id\n");
        }
        tracing::warn!(request_id = id, "request cancelled by the operator");
        text(StatusCode::OK, "request cancelled\n")
    }

    /// Opens the circuit breaker of the target that `?url=URL` names for `open`, or closes it.
    fn switch_circuit(
        &self,
        upstream: &str,
        query: Option<&str>,
        open: Option<Duration>,
    ) -> Response<AdminBody> {
        let Some(url) = value_of("url", query) else {
            return text(
                StatusCode::BAD_REQUEST,
                "no target named: add ?url=URL, with the URL of a target\n",
            );
        };
        let url = percent_decode_str(url).decode_utf8_lossy();
        let snapshot = self.gateway.live.load();
        let Some(found) = snapshot.upstreams.get(upstream) else {
            return text(StatusCode::NOT_FOUND, "no such upstream\n");
        };
        let Some(target) = found.targets().find(|target| *target.url == *url) else {
            return text(
                StatusCode::CONFLICT,
                "the upstream has no target with this URL: the configuration may have changed, and nothing was done\n",
            );
        };
        match open {
            Some(span) => {
                target.state.hold_open(span, Instant::now());
                tracing::warn!(upstream, target = &*target.url, "circuit breaker opened by the operator");
                text(StatusCode::OK, "circuit breaker opened\n")
            }
            None => {
                target.state.release();
                tracing::warn!(upstream, target = &*target.url, "circuit breaker closed by the operator");
                text(StatusCode::OK, "circuit breaker closed\n")
            }
        }
    }
}

/// Whether no web page has sent this, or one of this listener. Browsers send `origin` with each POST (Fetch Standard) and `sec-fetch-site` with all
/// requests (Fetch Metadata), where `none` means that a person has asked for it.
pub(super) fn is_of_own_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return false;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    origins.all(|origin| {
        let origin = origin.as_bytes();
        let authority = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
        authority == Some(host)
    })
}

/// The value of `?NAME=VALUE`, encoded as it is.
pub(super) fn value_of<'a>(name: &str, query: Option<&'a str>) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The span of `?for=SPAN`.
fn span_of(query: Option<&str>) -> Duration {
    value_of("for", query)
        .and_then(|span| span::parse(span).ok())
        .map_or(USUAL_SPAN, |span| span.min(LONGEST_SPAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_actions() {
        assert_eq!(Action::of("drain"), Some(Action::Drain));
        assert_eq!(Action::of("requests/req_1/cancel"), Some(Action::Cancel("req_1")));
        let open = Action::Circuit { upstream: "a", open: true };
        assert_eq!(Action::of("upstreams/a/open"), Some(open));
        for other in ["", "drain/", "requests//cancel/", "upstreams/a/targets/1/open", "upstreams/a/b"] {
            assert_eq!(Action::of(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_listeners_own_page_may_act() {
        let allowed = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_of_own_page(&headers)
        };
        let host = ("host", "127.0.0.1:9901");
        assert!(allowed(&[host]));
        assert!(allowed(&[host, ("origin", "http://127.0.0.1:9901"), ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[("host", "ops.example.com"), ("origin", "https://ops.example.com")]));
        for origin in ["http://127.0.0.1", "http://127.0.0.1:99011", "https://evil.example", "null", ""] {
            assert!(!allowed(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!allowed(&[host, ("origin", "http://127.0.0.1:9901"), ("origin", "null")]));
        assert!(!allowed(&[host, ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn the_span_is_bounded() {
        assert_eq!(span_of(None), USUAL_SPAN);
        assert_eq!(span_of(Some("a=b&for=90s")), Duration::from_secs(90));
        assert_eq!(span_of(Some("for=9000h")), LONGEST_SPAN);
        assert_eq!(span_of(Some("for=x")), USUAL_SPAN);
    }
}
