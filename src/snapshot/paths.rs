//! The path and query of a request at a target.

use std::borrow::Cow;

use super::{Route, Target, Upstream};
use crate::{
    config::{Azure, Deployment},
    openai::{self, NoDeployment},
};

/// The model that a request to an upstream is for.
#[derive(Debug, Clone, Copy)]
pub struct AskedModel<'a> {
    /// The one that the upstream's entry names.
    pub own: Option<&'a str>,
    /// The one that the client names.
    pub named: Option<&'a str>,
}

impl Route {
    /// The path at a `target` of `upstream` for the canonical `path`, which matched this route: rewritten, with the deployment that an Azure
    /// path names. `None`: the path is not below the route's.
    ///
    /// # Errors
    /// The upstream has deployments, and no deployment can have the model's name.
    pub fn path_at<'p>(
        &self,
        path: &'p str,
        upstream: &Upstream,
        target: &Target,
        model: AskedModel<'_>,
    ) -> Result<Option<Cow<'p, str>>, NoDeployment> {
        let Some(azure) = &upstream.azure else {
            let sent = self.upstream_path(path, target);
            return Ok(sent.map(|sent| with_model(sent, model.own)));
        };
        let Some(rewritten) = self.rewritten(path) else { return Ok(None) };
        let (name, own) = match &azure.deployment {
            Deployment::Named(name) => (Some(&**name), None),
            Deployment::Model => {
                (model.own.or(model.named).filter(|name| Azure::is_deployment(name)), model.own)
            }
        };
        // A path that is Azure's already may name another deployment.
        let azure = with_model(openai::azure_path(&rewritten, name)?, own);
        let base = target.base.trim_end_matches('/');
        let base = base.strip_suffix("/openai").unwrap_or(base);
        Ok(Some(Cow::Owned([base, &azure].concat())))
    }
}

impl Upstream {
    /// The query of a request to this upstream, which has `query` already.
    pub fn query<'q>(&self, query: Option<&'q str>) -> Option<Cow<'q, str>> {
        let query = query.filter(|query| !query.is_empty());
        let Some(azure) = &self.azure else { return query.map(Cow::Borrowed) };
        let Some(query) = query else { return Some(format!("api-version={}", azure.api_version).into()) };
        let has_version = query.split('&').any(|pair| pair.starts_with("api-version="));
        Some(if has_version {
            query.into()
        } else {
            format!("{query}&api-version={}", azure.api_version).into()
        })
    }

    /// Whether the path of a request to it depends on the model that the request names.
    pub fn needs_model(&self) -> bool {
        self.azure.as_ref().is_some_and(|azure| azure.deployment == Deployment::Model)
    }
}

fn with_model<'p>(path: Cow<'p, str>, model: Option<&str>) -> Cow<'p, str> {
    let renamed = model.and_then(|model| openai::with_path_model(&path, model));
    renamed.map_or(path, Cow::Owned)
}
