//! Which lines are shown.

use clap::Args;

use super::entry::Entry;

/// Fields that hold an id.
const IDS: [&str; 7] = [
    "request_id",
    "trace_id",
    "trace_name",
    "w3c_trace_id",
    "caller_request_id",
    "client_request_id",
    "upstream_request_id",
];

/// What a line must be like; each option that is given must fit.
#[derive(Debug, Default, Args)]
pub(super) struct Filter {
    /// Only requests of this client; a trailing * matches any rest
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only requests for this model; a trailing * matches any rest
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Only requests to this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Only requests that this party ended
    #[arg(long, value_name = "WHO", value_parser = ["downstream", "upstream", "gateway"])]
    who: Option<String>,
    /// Only requests with this id: of the request, its trace, the client or the provider
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only what went wrong: requests with an error, warnings and errors
    #[arg(long)]
    errors: bool,
}

impl Filter {
    /// Whether the line fits. One that is not JSON fits only if nothing is asked for.
    pub(super) fn fits(&self, entry: &Entry<'_>) -> bool {
        let Self { client, model, upstream, who, id, errors } = self;
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| entry.text(name).is_some_and(|text| matches(wanted, text)))
        };
        let tried = |wanted: &str| {
            entry.list("attempts").iter().any(|attempt| attempt["upstream"].as_str() == Some(wanted))
        };
        let has_id = |wanted: &str| IDS.iter().any(|name| entry.text(name) == Some(wanted));
        is(client, "caller")
            && is(model, "model")
            && is(who, "who")
            && (is(upstream, "upstream") || upstream.as_deref().is_some_and(tried))
            && id.as_deref().is_none_or(has_id)
            && (!errors || entry.is_bad())
    }
}

fn matches(wanted: &str, text: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == text, |beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"access","request_id":"req_1","trace_id":"t1","caller":"team-a","model":"gpt-4o-mini","upstream":"azure","who":"upstream","error":"upstream_idle","attempts":[{"upstream":"openai"},{"upstream":"azure"}]}"#;

    fn fits(set: impl FnOnce(&mut Filter)) -> bool {
        let mut filter = Filter::default();
        set(&mut filter);
        filter.fits(&Entry::read(LINE))
    }

    #[test]
    fn each_option_narrows() {
        let some = |text: &str| Some(text.to_owned());
        assert!(fits(|_| ()));
        for (wanted, fitting) in [("team-a", true), ("team-*", true), ("team", false)] {
            assert_eq!(fits(|filter| filter.client = some(wanted)), fitting, "{wanted}");
        }
        assert!(
            fits(|filter| filter.model = some("gpt-4o*")) && !fits(|filter| filter.model = some("gpt-4o"))
        );
        assert!(fits(|filter| filter.who = some("upstream")) && !fits(|filter| filter.who = some("gateway")));
        for (wanted, fitting) in [("req_1", true), ("t1", true), ("req_2", false)] {
            assert_eq!(fits(|filter| filter.id = some(wanted)), fitting, "{wanted}");
        }
        for (wanted, fitting) in [("azure", true), ("openai", true), ("other", false)] {
            assert_eq!(fits(|filter| filter.upstream = some(wanted)), fitting, "{wanted}");
        }
        assert!(fits(|filter| filter.errors = true));
    }

    #[test]
    fn a_line_that_is_not_json_fits_no_option() {
        let filter = Filter { errors: true, ..Filter::default() };
        assert!(!filter.fits(&Entry::read("time=1 kind=access")));
        assert!(Filter::default().fits(&Entry::read("time=1 kind=access")));
    }
}
