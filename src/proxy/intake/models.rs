//! The upstreams of the request's model, where `[model.NAME]` tables say so.

use std::sync::Arc;

use crate::{
    access::Caller,
    fault::Fault,
    proxy::arrival::RoutedRequest,
    snapshot::{ModelIndex, Route},
};

/// The names by which a request calls its model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    /// In its body, else in its path.
    pub(super) model: Option<&'a str>,
    /// In its path (Azure, Gemini), where it decides, whatever the body says.
    pub(super) in_path: Option<&'a str>,
}

/// Gives the request the upstreams of the table that fits its model. Returns the route as it is configured, if that changed anything.
///
/// # Errors
/// The route serves only models that have a table, and this one has none.
pub(super) fn choose_upstreams(
    routed: &mut RoutedRequest,
    caller: Option<&Caller>,
    named: Named<'_>,
) -> Result<Option<Arc<Route>>, Fault> {
    let Some(index) = &routed.route.models else { return Ok(None) };
    let Some(deciding) = named.in_path.or(named.model) else { return Ok(None) };
    if index.is_closed() {
        let all = named.in_path.into_iter().chain(named.model);
        if let Some(unknown) = all.into_iter().find(|model| index.find(model).is_none()) {
            return Err(not_found(index, caller, unknown));
        }
    }
    let Some(found) = index.find(deciding) else { return Ok(None) };
    let chosen = found.route.clone();
    Ok(Some(std::mem::replace(&mut routed.route, chosen)))
}

/// The error for a model without a table, with names like it that the client may use.
fn not_found(index: &ModelIndex, caller: Option<&Caller>, model: &str) -> Fault {
    let is_allowed = |name: &str| caller.is_none_or(|caller| caller.may_use_model(name));
    Fault::model_not_found(model, &index.nearest(model, is_allowed))
}
