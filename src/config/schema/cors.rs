//! `cors` of a route: the web pages that may open WebSocket connections.

use http::Uri;

use crate::config::{
    declare::{Kind as _, list, table, text},
    problem::{Complaint, complaint},
};

table! {
    /// The web pages that may open WebSocket connections on a route, by their origins.
    #[derive(Debug, Clone)]
    pub struct Cors(table, context) {
        origins: Vec<String> = list(text("origin", origin)).non_empty(r#"for example ["https://app.example.com"]"#)
                .required(r#"for example origins = ["https://app.example.com"]"#),
            "Origins of the pages: scheme, host, and the port if it is not the scheme's own. \"*\" stands for all.",
            { example: &[r#"["https://app.example.com"]"#] };
    }
}

impl Cors {
    /// Whether a page of this origin may open connections.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin)
    }
}

/// An origin as browsers write it (RFC 6454 §6.2): in lower case, without a path, and without the port that the scheme implies.
fn origin(text: &str) -> Result<String, Complaint> {
    let help = r#"for example "https://app.example.com" or "http://localhost:3000", or "*" for all"#;
    let wrong = || complaint("is not an origin", help);
    if text == "*" {
        return Ok(text.to_owned());
    }
    let uri = Uri::try_from(text).map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
    let written = format!("{scheme}://{authority}").to_ascii_lowercase();
    let implied = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let is_whole = written == text.to_ascii_lowercase() && !authority.as_str().contains('@');
    if !is_whole || (!implied.is_empty() && written.ends_with(implied)) {
        return Err(complaint("is not an origin as browsers send it", help));
    }
    Ok(written)
}
