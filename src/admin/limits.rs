//! `/limits`: what is used of each limit, by whom. `/status` has the same, of fewer subjects.

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::AdminState;
use crate::{
    access::Caller,
    config::Each,
    exchange::now,
    limit::{Allowance, Calendar, CalendarUnit, Left, Limit, Moment, Unit},
    money::Money,
    snapshot::{LimitView, Snapshot, SubjectView, UnitView},
    span,
};

/// Subjects of each limit that `/limits` lists.
const LISTED: usize = 1000;

/// Subjects of each limit that `/status` lists.
const LISTED_IN_STATUS: usize = 20;

/// Which subjects are shown.
#[derive(Clone, Copy)]
struct Selection<'s> {
    /// Those that the requests of one client count as; `None`: all.
    client: Option<&'s Caller>,
    /// The most for each limit.
    listed: usize,
}

impl AdminState {
    /// All limits, or those of the client that the query names.
    pub(super) fn limits(&self, uri: &Uri) -> Response<Full<Bytes>> {
        let snapshot = self.gateway.live.load();
        let named = uri.query().and_then(|query| query.strip_prefix("client="));
        let client = match named {
            None => None,
            Some(name) => match snapshot.callers.by_name(name) {
                Some(caller) => Some(caller),
                None => return super::plain(StatusCode::NOT_FOUND, "no client has this name\n"),
            },
        };
        let selection = Selection { client: client.map(|caller| &**caller), listed: LISTED };
        super::json(&json!({ "limits": shown(&snapshot, selection) }))
    }
}

/// The limits, as `/status` shows them.
pub(super) fn for_status(snapshot: &Snapshot) -> Value {
    shown(snapshot, Selection { client: None, listed: LISTED_IN_STATUS })
}

fn shown(snapshot: &Snapshot, selection: Selection<'_>) -> Value {
    let now = now();
    let concerned = snapshot.limits.views().filter(|view| {
        selection.client.is_none_or(|caller| view.concerns(&caller.name, caller.group.as_deref()))
    });
    let currency = snapshot.pricing.as_ref().map(|book| &*book.currency);
    concerned.map(|view| limit(view, selection, currency, now)).collect()
}

fn limit(view: LimitView<'_>, selection: Selection<'_>, currency: Option<&str>, now: Moment) -> Value {
    let limit = view.limit();
    let wanted = selection.client.and_then(|caller| view.subject_of(&caller.name, caller.group.as_deref()));
    let mut subjects: Vec<(SubjectView<'_>, Vec<UnitView>)> = view
        .subjects()
        .filter(|subject| wanted.is_none() || subject.name.as_deref() == wanted)
        .map(|subject| {
            let units = subject.units(now);
            (subject, units)
        })
        .filter(|(_, units)| wanted.is_some() || units.iter().any(|unit| unit.left.used > 0))
        .collect();
    subjects.sort_by(|(_, one), (_, other)| saturation(other).total_cmp(&saturation(one)));
    let not_listed = subjects.len().saturating_sub(selection.listed);
    let listed: Vec<Value> =
        subjects.iter().take(selection.listed).map(|(one, units)| subject(one, units)).collect();
    json!({
        "name": *limit.name,
        "each": each(view.each()),
        "enforce": limit.enforce,
        "units": units(limit, currency),
        "subjects": listed,
        "subjects_not_listed": not_listed,
    })
}

fn saturation(units: &[UnitView]) -> f64 {
    units.iter().map(|unit| unit.left.saturation()).fold(0.0, f64::max)
}

fn each(each: Each) -> &'static str {
    match each {
        Each::Client => "client",
        Each::Group => "group",
        Each::Route => "route",
        Each::Model => "model",
        Each::Gateway => "gateway",
    }
}

/// What the limit restricts, and how much of it is admitted in what time.
fn units(limit: &Limit, currency: Option<&str>) -> Value {
    let of_time =
        [(Unit::Requests, &limit.requests), (Unit::Tokens, &limit.tokens), (Unit::Cost, &limit.cost)];
    let mut units = Map::new();
    for (unit, allowance) in of_time {
        let Some(allowance) = allowance else { continue };
        let mut shown = json!({ "quantity": amount(unit, allowance.quantity()) });
        match allowance {
            Allowance::Rate(rate) => {
                shown["per"] = span::written(rate.period()).into();
                shown["burst"] = amount(unit, rate.burst());
            }
            Allowance::Period { calendar, .. } => {
                shown["per"] = period(calendar).into();
                shown["timezone"] = calendar.zone_name().into();
            }
        }
        if let Some(currency) = currency.filter(|_| unit == Unit::Cost) {
            shown["currency"] = currency.into();
        }
        units.insert(unit.name().to_owned(), shown);
    }
    if let Some(concurrent) = limit.concurrent {
        units.insert(Unit::Concurrent.name().to_owned(), json!({ "quantity": concurrent }));
    }
    Value::Object(units)
}

fn period(calendar: &Calendar) -> &'static str {
    match calendar.unit() {
        CalendarUnit::Day => "day",
        CalendarUnit::Month => "month",
    }
}

fn subject(subject: &SubjectView<'_>, units: &[UnitView]) -> Value {
    let shown: Map<String, Value> =
        units.iter().map(|UnitView { unit, left }| (unit.name().to_owned(), used(*unit, left))).collect();
    let mut shown =
        json!({ "name": subject.name.as_deref(), "saturation": rounded(saturation(units)), "units": shown });
    if let Some(queue) = subject.queue() {
        shown["queue"] = super::queue::shown(&queue);
    }
    shown
}

fn used(unit: Unit, left: &Left) -> Value {
    let mut shown = json!({ "used": amount(unit, left.used), "remaining": amount(unit, left.remaining) });
    if unit != Unit::Concurrent {
        shown["full_in_ms"] = u64::try_from(left.full_in.as_millis()).unwrap_or(u64::MAX).into();
    }
    shown
}

/// A number of units; money as decimal text.
fn amount(unit: Unit, quantity: u64) -> Value {
    match unit {
        Unit::Cost => Money::from_nanos(quantity).to_string().into(),
        _ => quantity.into(),
    }
}

/// A ratio with four decimals.
fn rounded(ratio: f64) -> f64 {
    (ratio * 10_000.0).round() / 10_000.0
}
