//! The client connection that a request arrived on.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use super::{CallerMemo, HeadMemo};
use crate::{body::ConnectionState, config::Network};

/// One downstream connection, as its listener knows it.
#[derive(Debug)]
pub struct Downstream {
    /// The TCP peer, or the source address in the PROXY protocol header.
    pub client: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// The addresses whose `x-forwarded-for` is trusted; `None` if the TCP peer is not one of them.
    pub trusted: Option<Arc<[Network]>>,
    /// The shared state of the connection.
    pub connection: Rc<ConnectionState>,
    /// The client that sent the last request on the connection.
    pub memo: CallerMemo,
    /// The head of the last request on the connection.
    pub head_memo: HeadMemo,
}

impl Downstream {
    /// Whether the TCP peer is a proxy whose headers about the client are trusted.
    pub(super) fn is_trusted_proxy(&self) -> bool {
        self.trusted.is_some()
    }
}
