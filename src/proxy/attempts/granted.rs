//! What limits by model have granted to a request, by the model that its candidates are asked for.

use std::{sync::Arc, time::Duration};

use super::candidate::Candidate;
use crate::{
    exchange::Exchange,
    fault::Fault,
    limit::Admitted,
    proxy::{
        admission::{ModelRefused, admit_model, wait_for_model},
        context::RequestContext,
        intake::PreparedRequest,
    },
    snapshot::LimitScope,
};

/// The grants for the models that were tried. All candidates with one model share one grant, also when a late one is answered beside another.
#[derive(Debug, Default)]
pub(super) struct ModelGrants {
    /// At most one for each model of the route. The grant is `None` where no limit applies.
    granted: Vec<(Option<Arc<str>>, Option<Admitted>)>,
    /// The models whose limits were reached; at most those of the route.
    refused: Vec<Option<Arc<str>>>,
    /// Of the limits that were reached, the one that is free soonest, and in what time.
    reached: Option<(Duration, Fault)>,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) struct ModelWait {
    /// The model that a candidate asks for instead of the request's.
    pub(super) model: Option<Arc<str>>,
    /// Whether a late attempt is still on its way.
    pub(super) is_beside_late: bool,
}

/// Why a candidate is not tried.
#[derive(Debug)]
pub(super) enum NotGranted {
    /// A limit is reached, and another model may be tried.
    Skip,
    /// A limit is reached that the request may wait for, without a candidate: [`ModelGrants::wait`].
    Wait,
    /// A limit is reached, and the request ends with it.
    Refuse(Fault),
}

impl ModelGrants {
    /// Admits the request under the limits on the model of `candidate`, unless it has been already.
    ///
    /// # Errors
    /// A limit is reached.
    pub(super) async fn admit(
        &mut self,
        context: &RequestContext,
        exchange: &mut Exchange,
        request: &PreparedRequest,
        candidate: &Candidate,
    ) -> Result<(), NotGranted> {
        if self.granted.iter().any(|(model, _)| *model == candidate.model) {
            return Ok(());
        }
        if self.refused.contains(&candidate.model) {
            return Err(NotGranted::Skip);
        }
        let model = candidate.model.as_deref().or(request.model.as_deref());
        match admit_model(context, exchange, request, model).await {
            Ok(granted) => {
                self.granted.push((candidate.model.clone(), granted));
                Ok(())
            }
            Err(ModelRefused { may_wait: true, .. }) => Err(NotGranted::Wait),
            Err(ModelRefused { fault, goes_on: false, .. }) => Err(NotGranted::Refuse(fault)),
            Err(ModelRefused { fault, wait, goes_on: true, .. }) => {
                self.refused.push(candidate.model.clone());
                self.note(fault, wait.unwrap_or(Duration::MAX));
                Err(NotGranted::Skip)
            }
        }
    }

    /// Waits until the limits on a model admit the request. Nothing that limits have granted is held meanwhile, and all limits admit it again in one
    /// step, unless the request is on its way to another candidate: what was granted for that is in use.
    ///
    /// # Errors
    /// The limit that it has waited for.
    pub(super) async fn wait(
        &mut self,
        context: &RequestContext,
        exchange: &mut Exchange,
        request: &PreparedRequest,
        ModelWait { model, is_beside_late }: ModelWait,
    ) -> Result<(), Fault> {
        if !is_beside_late {
            self.granted.retain(|(_, granted)| granted.is_none());
        }
        let asked = model.as_deref().or(request.model.as_deref());
        let scope = if is_beside_late { LimitScope::Model } else { LimitScope::Any };
        let granted = wait_for_model(context, exchange, request, asked, scope).await?;
        self.granted.push((model, Some(granted)));
        Ok(())
    }

    /// Gives what was granted for `model`, which answers, to the exchange. What was granted for others is given back.
    pub(super) fn keep_for(&mut self, model: Option<&Arc<str>>, exchange: &mut Exchange) {
        if let Some(accounting) = exchange.accounting() {
            accounting.answered_by(model.map(|model| &**model));
        }
        for (known, granted) in self.granted.drain(..) {
            let (Some(granted), Some(accounting)) = (granted, exchange.accounting()) else { continue };
            if known.as_ref() == model {
                accounting.add(granted);
            }
        }
    }

    /// The limit that is free soonest, of those that were reached.
    pub(super) fn reached(&mut self) -> Option<Fault> {
        self.reached.take().map(|(_, fault)| fault)
    }

    fn note(&mut self, fault: Fault, wait: Duration) {
        if self.reached.as_ref().is_none_or(|(known, _)| wait < *known) {
            self.reached = Some((wait, fault));
        }
    }
}
