//! The handler that passes requests to the proxy.

use std::{pin::Pin, rc::Rc, sync::Arc};

use hyper::{Request, body::Incoming};

use super::{
    io::Io,
    serve::{Answer, Handler, UpgradeAnswer},
};
use crate::{
    body::Upgraded,
    proxy::{self, Downstream, Gateway, Load, OpenTunnel, ResponseBody, Worker},
};

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
    type Switched = OpenTunnel;

    fn handle(&self, downstream: Rc<Downstream>, request: Request<Incoming>) -> Answer<ResponseBody> {
        Box::pin(proxy::handle(self.0.clone(), downstream, request))
    }
    fn handle_upgrade(
        &self,
        downstream: Rc<Downstream>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = UpgradeAnswer<Self>>>> {
        let worker = self.0.clone();
        Box::pin(async {
            let (response, switched) = proxy::handle_upgrade(worker, downstream, request).await;
            UpgradeAnswer { response, switched }
        })
    }

    fn upgraded(tunnel: OpenTunnel, io: Upgraded<Io>) -> Pin<Box<dyn Future<Output = ()>>> {
        tunnel.run(io)
    }
}
