//! The handler that passes requests to the proxy.

use std::{rc::Rc, sync::Arc};

use hyper::{Request, body::Incoming};

use super::serve::{Answer, Handler};
use crate::proxy::{self, Downstream, Gateway, Load, ResponseBody, Worker};

/// Passes requests to [`proxy::handle`].
#[derive(Debug, Clone)]
pub(super) struct ProxyHandler(Rc<Worker>);

impl ProxyHandler {
    pub(super) fn new(gateway: Arc<Gateway>, load: Arc<Load>) -> Self {
        Self(Rc::new(Worker::new(gateway, load)))
    }
}

impl Handler for ProxyHandler {
    type Body = ResponseBody;

    fn handle(&self, downstream: Rc<Downstream>, request: Request<Incoming>) -> Answer<ResponseBody> {
        Box::pin(proxy::handle(self.0.clone(), downstream, request))
    }
}
