//! The files of the page, which are part of the program.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::admin::body::AdminBody;

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const FILES: [File; 3] = [
    File { path: "/live", content_type: "text/html; charset=utf-8", text: include_str!("page/page.html") },
    File {
        path: "/live/page.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("page/page.css"),
    },
    File {
        path: "/live/page.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("page/page.js"),
    },
];

/// What protects the page: it loads nothing but its own files, talks to nobody but its own listener, cannot be framed, and no text can
/// become markup (`require-trusted-types-for`).
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The entity tag of all files: they change with the program only.
const ETAG: HeaderValue = HeaderValue::from_static(concat!("\"", env!("CARGO_PKG_VERSION"), "\""));

/// The response with the file of that path, or the one that leads to the page.
pub(super) fn find(path: &str, headers: &HeaderMap) -> Option<Response<AdminBody>> {
    if matches!(path, "/" | "/live/") {
        return Some(to_the_page());
    }
    let file = FILES.iter().find(|file| file.path == path)?;
    let known = headers.get(header::IF_NONE_MATCH) == Some(&ETAG) && !cfg!(debug_assertions);
    let mut response = Response::new(AdminBody::whole(if known { "" } else { file.text }));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    own.insert(header::ETAG, ETAG);
    own.extend(HEADERS);
    Some(response)
}

fn to_the_page() -> Response<AdminBody> {
    let mut response = Response::new(AdminBody::whole("the live page is at /live\n"));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(super::PAGE));
    response
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// Bytes that all files may have together, compressed.
    const MOST: usize = 60 << 10;

    #[test]
    fn all_files_together_are_small() {
        let mut all = GzEncoder::new(Vec::new(), Compression::default());
        FILES.iter().for_each(|file| all.write_all(file.text.as_bytes()).unwrap());
        let size = all.finish().unwrap().len();
        assert!(size < MOST, "{size}");
    }

    #[test]
    fn the_files_name_no_other_site_and_no_way_to_make_markup_of_text() {
        for File { path, text, .. } in &FILES {
            for word in [
                "http://",
                "https://",
                "//cdn",
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "eval(",
                "style=",
            ] {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }
}
