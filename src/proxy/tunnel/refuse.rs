//! Refuses a web page: a page sees neither the status nor the body of a response that refuses its handshake, only the code and the reason of a
//! close frame.

use std::{future::poll_fn, pin::Pin, time::Duration};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{super::context::RequestContext, ending::code_of_refusal};
use crate::{
    exchange::Exchange,
    fault::{CloseReason, Fault, Outcome},
    openai::CLIENT_OUTLINED,
    websocket::{
        Interest, MessageReader, Observed,
        writer::{self, Sender},
    },
};

/// How long the page's browser may take to answer the close frame.
const GRACE: Duration = Duration::from_secs(2);

/// Limit of what a refused client may send meanwhile, in bytes.
const MOST: usize = 1 << 20;

/// The code and the reason of the close frame of a client that is refused.
#[derive(Debug)]
pub(in crate::proxy) struct PageRefusal {
    code: u16,
    reason: String,
}

impl PageRefusal {
    /// The refusal of a client because of `fault`, which also ends its exchange.
    pub(in crate::proxy) fn of_fault(
        fault: &Fault,
        exchange: &mut Exchange,
        context: &RequestContext,
    ) -> Self {
        exchange.fail(fault, |text| context.snapshot.upstream_keys.found_in(text));
        Self {
            code: code_of_refusal(fault.row().status),
            reason: fault.close_reason(exchange.record.languages.language()),
        }
    }

    /// The refusal of a client because an upstream has answered with this status, which ends its exchange.
    pub(in crate::proxy) fn of_response(status: StatusCode, exchange: &mut Exchange) -> Self {
        exchange.conclude(Outcome::COMPLETE);
        let refused = CloseReason::UpstreamRefused { status: status.as_u16() };
        Self { code: code_of_refusal(status), reason: refused.text(exchange.record.languages.language()) }
    }
}

/// Nothing is read of the messages.
const NOTHING: Interest = Interest { wants: |_| false, members: &CLIENT_OUTLINED, binary: false };

/// Closes a connection that was just accepted, with this code and reason, and waits for the client's close frame.
pub(super) async fn refuse<C>(mut client: C, refusal: &PageRefusal)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        client.write_all(&writer::close(Sender::Server, refusal.code, &refusal.reason)).await?;
        client.flush().await?;
        wait_for_close(&mut client).await?;
        poll_fn(|cx| Pin::new(&mut client).poll_shutdown(cx)).await
    };
    // Whatever becomes of it, the connection is closed now.
    let _ = timeout(GRACE, closing).await;
}

async fn wait_for_close<C: AsyncRead + Unpin>(client: &mut C) -> std::io::Result<()> {
    let mut reader = MessageReader::new(NOTHING);
    let mut buffer = vec![0; 4 << 10];
    let mut total = 0;
    while total < MOST {
        let read = client.read(&mut buffer).await?;
        let mut bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        total += read;
        let mut is_closed = false;
        while !bytes.is_empty() {
            let read = reader.read_frame(bytes, &mut |seen| is_closed |= matches!(seen, Observed::Close(_)));
            bytes = bytes.get(read..).unwrap_or_default();
        }
        if is_closed {
            return Ok(());
        }
    }
    Ok(())
}
