//! Whether a route lists the origin of the web page that sends a request (Fetch standard, "CORS protocol"). It is decided before the client is
//! known, so that a page can read also that its key is wrong.

use http::{HeaderMap, HeaderValue, header};

use crate::{config::Cors, exchange::Exchange, fault::Fault, policy::Readers};

/// Characters of an origin that the log shows.
const MOST_SHOWN: usize = 200;

/// Notes who may read the response to a request, by the `cors` that applies to it.
///
/// # Errors
/// The request is of a page that is not listed.
pub(super) fn admit(exchange: &mut Exchange, cors: &Cors, headers: &HeaderMap) -> Result<(), Fault> {
    let readers = readers(cors, headers);
    let is_refused = readers == Readers::NoPage && headers.contains_key(header::ORIGIN);
    exchange.readers = Some(Box::new(readers));
    if is_refused { Err(unlisted(headers)) } else { Ok(()) }
}

/// Who may read the response to a request with these headers.
pub(super) fn readers(cors: &Cors, headers: &HeaderMap) -> Readers {
    if cors.allows_all() {
        return Readers::AllPages;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) if cors.allows(origin.as_bytes()) => Readers::Page(origin.clone()),
        _ => Readers::NoPage,
    }
}

/// The page that sends these headers is not listed.
#[cold]
pub(super) fn unlisted(headers: &HeaderMap) -> Fault {
    let origins: Vec<&[u8]> = headers.get_all(header::ORIGIN).iter().map(HeaderValue::as_bytes).collect();
    let origins = origins.join(&b", "[..]).escape_ascii().to_string();
    let shown: String = origins.chars().take(MOST_SHOWN).collect();
    Fault::OriginUnlisted(format!("the origin is {shown}").into())
}
