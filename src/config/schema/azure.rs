//! `azure = { … }` of an upstream.

use std::sync::Arc;

use http::HeaderName;

use super::{Auth, upstream::Target};
use crate::config::{
    declare::{Context, Kind, Shape, parse_as, table, text},
    problem::{Complaint, complaint},
    reader::{Node, Table},
};

/// The header with the key (Azure OpenAI data plane reference, "Authentication").
const KEY_HEADER: HeaderName = HeaderName::from_static("api-key");

/// The longest name of a deployment, in characters (Azure OpenAI resource management reference, deployments).
const MAX_DEPLOYMENT: usize = 64;

table! {
    /// How OpenAI's paths become those of an Azure OpenAI resource.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Azure(table, context) {
        api_version: Arc<str> = text("API version", api_version).required(r#"for example: api_version = "2024-10-21""#),
            "Value of `api-version` in the query of each request that has none.";
        deployment: Deployment = parse_as(|| Shape::Text("\"model\" or name of a deployment"), deployment)
                .written_as("\"model\"").or(Deployment::Model),
            "Deployment in the paths of requests: \"model\" for the one that has the name of the request's model, or the name of one.";
    }
}

/// Which deployment a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployment {
    /// The one with the name of the model that the candidate is asked for.
    Model,
    /// This one, for all models.
    Named(Arc<str>),
}

impl Azure {
    /// Whether a name can be that of a deployment, and so a segment of a path.
    pub fn is_deployment(name: &str) -> bool {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        is_plain && name.bytes().any(|byte| byte != b'.') && name.len() <= MAX_DEPLOYMENT
    }
}

/// How the key of an upstream is sent if its table does not say it.
pub(super) fn default_auth(azure: Option<&Azure>) -> Auth {
    azure.map_or(Auth::Bearer, |_| Auth::Header(KEY_HEADER))
}

/// The newer API of Azure has OpenAI's paths.
pub(super) fn base_is_a_resource(table: &Table<'_>, targets: Option<&[Target]>) {
    let has_new_paths = |target: &Target| target.base_path().trim_end_matches('/').ends_with("/openai/v1");
    if let Some(node) = table.get("azure")
        && targets.is_some_and(|targets| targets.iter().any(has_new_paths))
    {
        node.fail(complaint(
            "is not for a URL that ends with `/openai/v1`, which has OpenAI's paths",
            "remove `azure` and set auth = { header = \"api-key\" }, or remove `/openai/v1` from the URL",
        ));
    }
}

fn api_version(text: &str) -> Result<Arc<str>, Complaint> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if text.is_empty() || text.len() > 64 || !is_plain {
        return Err(complaint("is not the version of an API", r#"for example "2024-10-21""#));
    }
    Ok(Arc::from(text))
}

fn deployment(node: &Node<'_>, _: &Context<'_>) -> Option<Deployment> {
    node.parse(|text| match text {
        "model" => Ok(Deployment::Model),
        name if Azure::is_deployment(name) => Ok(Deployment::Named(Arc::from(name))),
        _ => Err(complaint(
            "is not the name of a deployment",
            r#"write "model", or at most 64 letters, digits, `-`, `_` and `.`"#,
        )),
    })
}
