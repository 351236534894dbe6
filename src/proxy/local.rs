//! Responses that the gateway gives without an upstream: the list of models.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header, request};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    access::Caller,
    config::ModelList,
    exchange::Record,
    fault::{ANTHROPIC_REQUEST_ID, ErrorForm, Fault, Reason},
    openai::{Endpoint, Operation},
    snapshot::{ModelIndex, Route},
};

/// What stands for the time at which a model was released, where that is not known (Anthropic API reference, List Models).
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Length of a page of Anthropic's list, unless the query has a `limit` (Anthropic API reference, List Models).
const PAGE: usize = 20;
const LONGEST_PAGE: usize = 1000;

/// The models that one client may use on one route.
#[derive(Debug, Clone, Copy)]
struct Models<'a> {
    index: &'a ModelIndex,
    caller: Option<&'a Caller>,
}

/// What Anthropic's list is asked for.
#[derive(Debug, Default)]
struct Page {
    after: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

/// The response to a request for the list of models, or for one of them, if the route is configured to give it: the names of its `[model.NAME]`
/// tables that the client may use. `path` is the canonical one.
///
/// # Errors
/// There is no such model for this client, or the query of the list is invalid.
pub(super) fn models(
    record: &mut Record,
    head: &request::Parts,
    route: &Route,
    path: &str,
) -> Result<Option<Response<Bytes>>, Fault> {
    if route.model_list == ModelList::Upstream || !matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let (Some(index), Some(asked)) = (&route.models, asked(&head.method, route, path)) else {
        return Ok(None);
    };
    record.endpoint = Endpoint::Models;
    let models = Models { index, caller: record.caller.as_deref() };
    let form = record.error_form;
    let body = match (asked.is_empty(), form) {
        (false, _) => entry(models.find(&asked)?, form),
        (true, ErrorForm::OpenAi) => {
            let all: Vec<Value> = models.names().into_iter().map(|name| entry(name, form)).collect();
            json!({ "object": "list", "data": all })
        }
        (true, ErrorForm::Anthropic) => {
            Page::asked(head.uri.query().unwrap_or_default())?.of(&models.names())
        }
    };
    let mut response = Response::new(Bytes::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if form == ErrorForm::Anthropic {
        response.headers_mut().insert(ANTHROPIC_REQUEST_ID, record.request_id.header());
    }
    Ok(Some(response))
}

/// The model that a path asks for, and an empty text if it asks for the list; `None` if it asks for something else. A name with slashes is
/// one segment (the SDKs encode them) or several.
fn asked(method: &Method, route: &Route, path: &str) -> Option<String> {
    let below = path.strip_prefix(route.prefix.trim_end_matches('/')).unwrap_or(path);
    let direct = below.strip_prefix("/models").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = match direct {
        Some(rest) => rest.to_owned(),
        None => {
            // The prefix, or what replaces it, may end with the segment.
            let sent = route.upstream_path(path, route.steps.first()?.upstream.target(0))?;
            if Operation::of(method, &sent).endpoint != Endpoint::Models {
                return None;
            }
            sent.split_once("/models").map(|(_, rest)| rest.to_owned())?
        }
    };
    let name = rest.trim_matches('/');
    percent_decode_str(name).decode_utf8().ok().map(Into::into)
}

impl<'a> Models<'a> {
    /// The names in their order: those of tables and their aliases, and those that the client's `models` list and a table for a beginning fits.
    fn names(self) -> Vec<&'a str> {
        let of_tables = self.index.names().map(|name| &**name);
        let of_client = self.caller.into_iter().flat_map(Caller::named_models);
        let mut names: Vec<&str> = of_tables.chain(of_client).filter(|name| self.may_be_used(name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The name, if the client may use the model.
    fn find(self, name: &str) -> Result<&str, Fault> {
        if self.may_be_used(name) {
            return Ok(name);
        }
        Err(Fault::model_not_found(name, &self.index.nearest(name, |near| self.is_allowed(near))))
    }

    fn may_be_used(self, name: &str) -> bool {
        self.index.find(name).is_some() && self.is_allowed(self.index.counted_name(name))
    }

    fn is_allowed(self, counted: &str) -> bool {
        self.caller.is_none_or(|caller| caller.may_use_model(counted))
    }
}

impl Page {
    fn asked(query: &str) -> Result<Self, Fault> {
        let mut page = Self::default();
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(value).decode_utf8_lossy();
            match key {
                "after_id" => page.after = Some(value.into_owned()),
                "before_id" => page.before = Some(value.into_owned()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LONGEST_PAGE).contains(limit));
                    let invalid = Fault::BadRequest(Reason::ListLimit { least: 1, most: LONGEST_PAGE });
                    page.limit = Some(limit.ok_or(invalid)?);
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// The page of `names`, which are in order. A cursor need not be the name of a model any more.
    fn of(&self, names: &[&str]) -> Value {
        let is_inside = |name: &&&str| {
            self.after.as_deref().is_none_or(|after| **name > after)
                && self.before.as_deref().is_none_or(|before| **name < before)
        };
        let inside: Vec<&str> = names.iter().filter(is_inside).copied().collect();
        let limit = self.limit.unwrap_or(PAGE).min(inside.len());
        let goes_back = self.before.is_some() && self.after.is_none();
        let skipped = if goes_back { inside.len() - limit } else { 0 };
        let page: Vec<&str> = inside.iter().skip(skipped).take(limit).copied().collect();
        let data: Vec<Value> = page.iter().map(|name| entry(name, ErrorForm::Anthropic)).collect();
        json!({
            "data": data,
            "has_more": limit < inside.len(),
            "first_id": page.first(),
            "last_id": page.last(),
        })
    }
}

/// One model, in the form of the client's API.
fn entry(name: &str, form: ErrorForm) -> Value {
    match form {
        ErrorForm::OpenAi => json!({ "id": name, "object": "model", "created": 0, "owned_by": "sluicegate" }),
        ErrorForm::Anthropic => {
            json!({ "type": "model", "id": name, "display_name": name, "created_at": EPOCH })
        }
    }
}
