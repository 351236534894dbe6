//! Where the results of Anthropic's message batches are fetched: batch objects name that place as an absolute URL, `results_url`, which SDKs
//! follow with the client's key (anthropic-sdk-python `resources/messages/batches.py`, `results`).
//!
//! Source: Anthropic API reference, Message Batches.

use std::ops::Range;

use http::Method;

use super::json::{self, Leaf, NotJson, Object, Shape, Value};

/// What all paths of batches have in common.
const BATCHES: &str = "/messages/batches";

/// A `results_url` in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsUrl {
    /// The JSON text of its value, quotes included, as offsets in the response.
    pub range: Range<usize>,
    /// What follows `…/messages/batches` in it: `/ID/results`, perhaps with a query.
    pub rest: String,
}

/// The beginning of `path` up to `…/messages/batches`, if the response to a request by `method` has batch objects.
pub fn batches_base<'p>(method: &Method, path: &'p str) -> Option<&'p str> {
    if !matches!(*method, Method::GET | Method::POST) {
        return None;
    }
    let at = path.rfind(BATCHES)?;
    let (base, rest) = path.split_at_checked(at + BATCHES.len())?;
    let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
    let is_one = matches!(
        (rest.is_empty() || rest.starts_with('/'), segments.next(), segments.next(), segments.next()),
        (true, _, None | Some("cancel"), None)
    );
    is_one.then_some(base)
}

/// Every `results_url` of a batch object, or of a list of them, that leads to `…/messages/batches/ID/results`. `None` if the response is no JSON
/// object.
pub fn results_urls(body: &[u8]) -> Option<Vec<ResultsUrl>> {
    let mut batches = Batches::default();
    match json::read(body, &mut batches) {
        Ok(Shape::Object) => Some(batches.urls),
        Ok(Shape::Null | Shape::Other) | Err(NotJson { .. }) => None,
    }
}

/// A batch, or a list of batches.
#[derive(Default)]
struct Batches {
    urls: Vec<ResultsUrl>,
}

/// A batch.
#[derive(Default)]
struct Batch {
    urls: Vec<ResultsUrl>,
}

impl Object for Batches {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key == b"data" {
            return value.each(|batch: Batch| self.urls.extend(batch.urls));
        }
        read_url(key, value, &mut self.urls)
    }
}

impl Object for Batch {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        read_url(key, value, &mut self.urls)
    }
}

fn read_url(key: &[u8], value: &mut Value<'_>, urls: &mut Vec<ResultsUrl>) -> Result<(), NotJson> {
    if key != b"results_url" {
        return value.skip();
    }
    let begin = value.begins_at();
    if let Leaf::Text(url) = value.leaf()?
        && let Some(rest) = rest_of(&url)
    {
        urls.push(ResultsUrl { range: begin..value.ends_at(), rest: rest.to_owned() });
    }
    Ok(())
}

fn rest_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_at_checked(url.rfind(BATCHES)? + BATCHES.len())?;
    let path = rest.split(['?', '#']).next()?;
    let id = path.strip_prefix('/')?.strip_suffix("/results")?;
    (!id.is_empty() && !id.contains('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_whose_responses_have_batch_objects() {
        let base = |path| batches_base(&Method::GET, path);
        assert_eq!(base("/a/v1/messages/batches"), Some("/a/v1/messages/batches"));
        assert_eq!(base("/v1/messages/batches/msgbatch_1"), Some("/v1/messages/batches"));
        assert_eq!(base("/v1/messages/batches/msgbatch_1/cancel"), Some("/v1/messages/batches"));
        assert_eq!(base("/v1/messages/batches/msgbatch_1/results"), None);
        assert_eq!(base("/v1/messages/batchesx"), None);
        assert_eq!(base("/v1/batches/batch_1"), None);
        assert_eq!(batches_base(&Method::DELETE, "/v1/messages/batches/msgbatch_1"), None);
    }

    #[test]
    fn the_urls_of_a_batch_and_of_a_list_are_found() {
        let rests = |body: &str| {
            results_urls(body.as_bytes()).map(|urls| {
                urls.into_iter().map(|url| (body[url.range].to_owned(), url.rest)).collect::<Vec<_>>()
            })
        };
        let url = "\"https://api.anthropic.com/v1/messages/batches/msgbatch_1/results\"";
        let rest = "/msgbatch_1/results".to_owned();
        let found = Some(vec![(url.to_owned(), rest)]);
        assert_eq!(rests(&format!("{{\"id\":\"x\", \"results_url\" : {url} }}")), found);
        let list =
            format!("{{\"data\":[{{\"results_url\":{url}}},7,{{\"results_url\":null}}],\"has_more\":false}}");
        assert_eq!(rests(&list), found);
        let query = r#"{"results_url":"https:\/\/h/x/messages/batches/b/results?a=b"}"#;
        assert_eq!(rests(query).unwrap()[0].1, "/b/results?a=b");
        for other in [
            "https://h/elsewhere",
            "https://h/messages/batches/results",
            "https://h/messages/batches/a/b/results",
        ] {
            assert_eq!(rests(&format!("{{\"results_url\":{other:?}}}")), Some(Vec::new()), "{other}");
        }
        assert_eq!(rests("[]"), None);
    }
}
