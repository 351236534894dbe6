//! Removes headers in place.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, TRAILER},
};

/// How many names are noted without an allocation.
const ROOM: usize = 16;

/// Removes each name that has a line which does not stay, with all its lines. The other names keep their values in order.
pub(super) fn sweep(headers: &mut HeaderMap, mut stays: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
    let mut room = [const { None }; ROOM];
    let mut more = Vec::new();
    let mut places = room.iter_mut();
    for (name, _) in headers.iter().filter(|(name, value)| !stays(name, value)) {
        match places.next() {
            // A clone of a name copies nothing but a count.
            Some(place) => *place = Some(name.clone()),
            None => more.push(name.clone()),
        }
    }
    for name in room.into_iter().flatten().chain(more) {
        headers.remove(name);
    }
}

/// Removes the headers that `Connection` names (RFC 9110 section 7.6.1), except `content-length`, which may not be named there.
pub(super) fn remove_nominated(headers: &mut HeaderMap) {
    // Nearly always there is only `keep-alive`, or nothing, and nothing is allocated.
    let options: Vec<_> =
        headers.get_all(CONNECTION).iter().filter(|value| nominates(value)).cloned().collect();
    for name in options.iter().flat_map(items) {
        if !name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()) {
            headers.remove(name);
        }
    }
}

/// Leaves in `trailer` only the names that may come, in their order.
pub(super) fn announce(headers: &mut HeaderMap, may_come: impl Fn(&HeaderName) -> bool) {
    let comes = |name: &str| name.parse().is_ok_and(|name| may_come(&name));
    let lines = headers.get_all(TRAILER);
    if lines.iter().all(|line| line.to_str().is_ok() && items(line).all(comes)) {
        return;
    }
    let kept = lines.iter().flat_map(items).filter(|name| comes(name)).collect::<Vec<_>>().join(", ");
    match HeaderValue::try_from(kept) {
        Ok(kept) if !kept.is_empty() => headers.insert(TRAILER, kept),
        _ => headers.remove(TRAILER),
    };
}

fn nominates(value: &HeaderValue) -> bool {
    !value.as_bytes().eq_ignore_ascii_case(b"keep-alive") && !value.as_bytes().eq_ignore_ascii_case(b"close")
}

/// The members of a list (RFC 9110 section 5.6.1); those that are no text are no names.
fn items(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let members =
        value.as_bytes().split(|&byte| byte == b',').filter_map(|member| std::str::from_utf8(member).ok());
    members.map(str::trim).filter(|member| !member.is_empty())
}
