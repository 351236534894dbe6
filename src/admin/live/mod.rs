//! The live page: its files, the stream of events that it shows, and the operator's actions.
//!
//! Nothing here runs while nobody looks. The first viewer starts the [`feed`]; workers are then asked twice a second for their open
//! requests, and each viewer gets what has changed since. `sluicegate top` is a viewer as the page is.

mod actions;
mod changes;
mod feed;
mod files;
mod notices;
mod patch;
mod state;
mod usage;
mod viewers;

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::{AdminState, body::AdminBody};
use feed::Feed;
pub(super) use viewers::EventBody;
use viewers::{Topics, Viewers};

/// What lives as long as the admin listener.
#[derive(Debug, Default)]
pub(super) struct Live {
    viewers: Viewers,
}

/// Path of the page; everything of it is below.
const PAGE: &str = "/live";

/// Path of the stream of events.
const EVENTS: &str = "/live/events";

/// Sends the state to viewers as long as its runtime runs.
pub(super) async fn run(state: Rc<AdminState>) {
    Feed::new(state).run().await;
}

/// A file of the page. It holds nothing of this gateway, so it needs no token: a browser cannot send one before the page runs.
pub(super) fn page<B>(request: &Request<B>) -> Option<Response<AdminBody>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    files::find(request.uri().path(), request.headers())
}

impl AdminState {
    /// The stream of events, or the result of an action.
    pub(super) async fn live<B>(&self, request: &Request<B>) -> Option<Response<AdminBody>> {
        let path = request.uri().path();
        if path == EVENTS && *request.method() == Method::GET {
            return Some(self.watch(request));
        }
        let action = path.strip_prefix(PAGE)?.strip_prefix('/')?;
        if *request.method() == Method::POST {
            return Some(self.act(request, action).await);
        }
        None
    }

    fn watch<B>(&self, request: &Request<B>) -> Response<AdminBody> {
        // No other page can read the events, but it could take the room of those who may.
        if !actions::is_of_own_page(request.headers()) {
            return text(
                StatusCode::FORBIDDEN,
                "origin not allowed: requests of other web pages are refused\n",
            );
        }
        let named = actions::value_of("topics", request.uri().query());
        let Some(topics) = named.map_or(Some(Topics::all()), Topics::of) else {
            return text(
                StatusCode::BAD_REQUEST,
                "unknown topic: ?topics= takes state, configuration, finished and log, with commas between them\n",
            );
        };
        let Some(body) = self.live.viewers.join(topics, self.gateway.live.load().admin_token.clone()) else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many viewers: close another live page, or `sluicegate top`\n",
            );
        };
        let mut response = Response::new(AdminBody::Events(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<AdminBody> {
    let mut response = Response::new(AdminBody::whole(text));
    *response.status_mut() = status;
    response
}
