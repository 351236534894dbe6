//! Why no account can serve a request with an id.

use std::time::Duration;

use http::StatusCode;

use super::{Who, retry_seconds, table::Row};

/// Why no account can serve a request with an id that only one account knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdOwner {
    /// The account that requests of the client belong to does not know the id, which is not looked for elsewhere because the request changes
    /// something.
    Unknown,
    /// The id belongs to an account to which the route does not lead any more.
    Gone,
    /// The ids of the request belong to different accounts.
    Differ,
    /// The account cannot be asked now. The time until it may be.
    Unavailable(Duration),
}

impl IdOwner {
    /// The row of the table of faults.
    pub(super) fn row(self) -> Row {
        const INVALID: &str = "invalid_request_error";
        let (status, kind, code, retry, who) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, INVALID, "id_owner_unknown", false, Who::Downstream),
            Self::Gone => (StatusCode::NOT_FOUND, INVALID, "id_owner_gone", false, Who::Gateway),
            Self::Differ => (StatusCode::BAD_REQUEST, INVALID, "id_owners_differ", false, Who::Downstream),
            Self::Unavailable(_) => {
                let unavailable = StatusCode::SERVICE_UNAVAILABLE;
                (unavailable, "server_error", "id_owner_unavailable", true, Who::Upstream)
            }
        };
        Row { status, kind, code, retry: Some(retry), who }
    }

    /// The name of its text.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unknown => "id_owner_unknown",
            Self::Gone => "id_owner_gone",
            Self::Differ => "id_owners_differ",
            Self::Unavailable(_) => "id_owner_unavailable",
        }
    }

    /// The time until the account may be asked, in seconds.
    pub(super) fn seconds(self) -> Option<u64> {
        match self {
            Self::Unavailable(wait) => Some(retry_seconds(wait)),
            Self::Unknown | Self::Gone | Self::Differ => None,
        }
    }
}
