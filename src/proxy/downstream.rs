//! What is known of the connection that a request came on.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use super::CallerMemo;
use crate::{body::ConnectionState, config::Network};

/// One downstream connection, as its listener knows it.
#[derive(Debug)]
pub struct Downstream {
    /// The TCP peer, or the source that a PROXY protocol header told.
    pub client: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
    /// Whether it is TLS.
    pub tls: bool,
    /// When the TCP peer may say who the caller is: the addresses that are trusted to speak of others in `x-forwarded-for`.
    pub trusted: Option<Arc<[Network]>>,
    /// The shared state of the connection.
    pub connection: Rc<ConnectionState>,
    /// Who sent its last request.
    pub memo: CallerMemo,
}
