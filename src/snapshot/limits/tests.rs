//! What a configuration counts goes on under the next one.

use std::{collections::HashMap, path::Path};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    config::{ClientChange, Config, Env, KeyHash, parse},
    limit::{Admitted, Demand, Now, TokenCount, shared::Subject},
};

const CLIENTS: [&str; 3] = ["ann", "bob", "eve"];
const MODELS: [&str; 3] = ["gpt-4o-mini", "o3", "llama"];

/// No period of the calendar ends during a test.
fn at() -> Moment {
    Moment { monotonic: Now::from_nanos(0), wall: Timestamp::from_second(1_800_000_000).unwrap() }
}

/// What differs between two configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    /// The number of each limit.
    quantity: u64,
    /// Whether the client's limit is per day, and not per month.
    daily: bool,
    /// Whether the limit of groups counts the gateway instead.
    as_one: bool,
    /// Whether the limit of groups is there.
    grouped: bool,
    /// Whether the order of the patterns of models is the other one.
    turned: bool,
    /// Whether the client's limit is on tokens too.
    tokens: bool,
    /// Whether counts are shared.
    redis: bool,
    /// Whether the client's limit is on requests at once and on nothing else.
    only_at_once: bool,
}

const PLAIN: Written = Written {
    quantity: 1_000_000,
    daily: false,
    as_one: false,
    grouped: true,
    turned: false,
    tokens: true,
    redis: false,
    only_at_once: false,
};

/// A configuration with these clients: the name of each, and the group that it is in.
fn config(written: Written, clients: &[(&str, Option<&str>)]) -> Config {
    let Written { quantity, daily, as_one, grouped, turned, tokens, redis, only_at_once } = written;
    let redis = if redis { "[redis]\nurl = \"redis://127.0.0.1:1/0\"\n" } else { "" };
    let per = if daily { "day" } else { "month" };
    let each = if as_one { "gateway" } else { "group" };
    let models = if turned { r#"["o3", "gpt-4o*"]"# } else { r#"["gpt-4o*", "o3"]"# };
    let client =
        if only_at_once { String::new() } else { format!("requests = {quantity}\nper = \"{per}\"\n") };
    let tokens = if tokens && !only_at_once { format!("tokens = {quantity}\n") } else { String::new() };
    let group = if grouped {
        format!(
            "[limit.group]\neach = \"{each}\"\nrequests = {quantity}\nconcurrent = 1000\nper = \"month\"\n"
        )
    } else {
        String::new()
    };
    let of_all = if grouped { r#"["group", "model"]"# } else { r#"["model"]"# };
    let mut text = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:8080"
        [client_files]
        directory = "clients.d"
        [defaults]
        limits = {of_all}
        [upstream.one]
        url = "http://127.0.0.1:1"
        auth = "none"
        [route.any]
        path = "/v1"
        upstreams = ["one"]
        [group.red]
        [group.blue]
        [limit.client]
        each = "client"
        concurrent = 1000
        {tokens}{client}
        [limit.model]
        each = "model"
        models = {models}
        requests = {quantity}
        per = "month"
        {group}
        {redis}
        "#
    );
    for (name, group) in clients {
        let key = KeyHash::of(format!("sk-{name}").as_bytes());
        let group = group.map(|group| format!("group = \"{group}\"\n")).unwrap_or_default();
        text.push_str(&format!("[client.{name}]\nkey = \"{key}\"\nlimits = [\"client\"]\n{group}"));
    }
    let none = |_: &str| None;
    parse(&text, &Env::new(Path::new("."), &none)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// The files of these clients, `None` for one that is gone.
fn files(clients: &[(&str, Option<Option<&str>>)]) -> Vec<ClientChange> {
    let there: Vec<_> = clients.iter().filter_map(|(name, group)| Some((*name, (*group)?))).collect();
    let mut written = config(PLAIN, &there).clients;
    let change = |(name, _): &(&str, _)| ClientChange {
        name: (*name).into(),
        client: written.remove(*name).map(Box::new),
    };
    clients.iter().map(change).collect()
}

/// A configuration without clients of its own, and with files of these.
fn snapshot(written: Written, clients: &[(&str, Option<&str>)]) -> Snapshot {
    let clients: Vec<_> = clients.iter().map(|(name, group)| (*name, Some(*group))).collect();
    Snapshot::compile(config(written, &[]), None).unwrap().with_clients(files(&clients)).snapshot
}

fn applying(snapshot: &Snapshot, client: &str, model: &str) -> Vec<Applied> {
    let caller = snapshot.callers.by_name(client).cloned();
    let request =
        LimitedRequest { caller: caller.as_deref(), route: "any", model_table: None, model: Some(model) };
    let mut all = snapshot.limits.applying(&request, LimitScope::Request);
    all.extend(snapshot.limits.applying(&request, LimitScope::Model));
    all
}

fn admit(snapshot: &Snapshot, client: &str, model: &str) -> Admitted {
    Admitted::take(&applying(snapshot, client, model), Demand::default(), at()).unwrap()
}

/// Requests that count as used of a limit.
fn used(snapshot: &Snapshot, limit: &str, client: &str, model: &str) -> u64 {
    let all = applying(snapshot, client, model);
    let applied = all.iter().find(|applied| *applied.limit.name == *limit).unwrap();
    applied.counter.remaining(&applied.limit, at()).requests.unwrap().used
}

fn reloaded(written: Written, previous: &Snapshot) -> Snapshot {
    Snapshot::compile(config(written, &[]), Some(previous)).unwrap().with_clients(Vec::new()).snapshot
}

/// The new configuration was compiled before the request came, and takes the old one's place after it.
#[test]
fn what_begins_between_the_compilation_and_the_swap_counts() {
    let old = snapshot(PLAIN, &[("ann", None)]);
    let new = Snapshot::compile(config(PLAIN, &[]), Some(&old)).unwrap();
    let changed = old.with_clients(files(&[("bob", Some(None))])).snapshot;
    let open = admit(&old, "ann", "o3");
    for later in [&new, &changed] {
        for limit in ["client", "group", "model"] {
            assert_eq!(used(later, limit, "ann", "o3"), 1, "{limit}");
        }
    }
    drop(open);
    assert_eq!(used(&new, "client", "ann", "o3"), 0);
}

#[test]
fn counts_are_found_by_name_and_not_by_position() {
    let old = snapshot(PLAIN, &[("bob", Some("red"))]);
    let _open = (admit(&old, "bob", "gpt-4o-mini"), admit(&old, "bob", "o3"), admit(&old, "bob", "o3"));
    // Other clients and another order of the patterns.
    let new = reloaded(Written { turned: true, quantity: 2_000_000, ..PLAIN }, &old);
    let new = new.with_clients(files(&[("ann", Some(Some("blue"))), ("eve", Some(Some("red")))])).snapshot;
    assert_eq!(used(&new, "model", "eve", "gpt-4o-mini"), 1);
    assert_eq!(used(&new, "model", "eve", "o3"), 2);
    assert_eq!(used(&new, "group", "eve", "o3"), 3);
    assert_eq!(used(&new, "group", "ann", "o3"), 0);
    assert_eq!(used(&new, "client", "bob", "o3"), 3);
}

#[test]
fn a_unit_that_is_added_or_left_out_changes_no_count_of_the_others() {
    let old = snapshot(Written { tokens: false, ..PLAIN }, &[("ann", None)]);
    let open = admit(&old, "ann", "o3");
    let new = reloaded(PLAIN, &old);
    assert_eq!(used(&new, "client", "ann", "o3"), 1);
    let tokens = Demand { tokens: TokenCount { input: 7, ..TokenCount::default() }, ..Demand::default() };
    Admitted::take(&applying(&new, "ann", "o3"), tokens, at()).unwrap().settle(tokens, at());
    drop(open);
    let newest = reloaded(Written { tokens: false, ..PLAIN }, &new);
    assert_eq!(used(&newest, "client", "ann", "o3"), 1);
}

/// A file of its name is an error, and takes nothing from the client.
#[test]
fn a_client_of_the_configuration_keeps_its_limits_beside_a_file_of_its_name() {
    let old = Snapshot::compile(config(PLAIN, &[("ann", None)]), None).unwrap();
    let changed = old.with_clients(files(&[("ann", Some(None)), ("bob", Some(None))]));
    assert_eq!(changed.conflicts.len(), 1);
    assert_eq!(used(&changed.snapshot, "client", "ann", "o3"), 0);
    let _open = admit(&changed.snapshot, "ann", "o3");
    assert_eq!(used(&changed.snapshot, "client", "ann", "o3"), 1);
}

/// A client that moves without a change of its limits counts in its new group at once.
#[test]
fn a_client_that_moves_to_another_group_counts_there() {
    let old = snapshot(PLAIN, &[("ann", Some("red")), ("bob", Some("blue"))]);
    let _open = admit(&old, "bob", "o3");
    let new = old.with_clients(files(&[("ann", Some(Some("blue")))])).snapshot;
    assert_eq!(used(&new, "group", "ann", "o3"), 1);
    assert_eq!(used(&old, "group", "ann", "o3"), 0);
}

/// A stream that runs is in flight, whatever a limit counts beside that from now on, and for what time.
#[test]
fn what_is_in_flight_goes_on_when_a_limit_counts_for_another_time() {
    let in_flight = |snapshot: &Snapshot| {
        let all = applying(snapshot, "ann", "o3");
        all.iter().find(|applied| *applied.limit.name == *"client").unwrap().counter.in_flight()
    };
    let old = snapshot(Written { only_at_once: true, ..PLAIN }, &[("ann", None)]);
    let monthly = reloaded(PLAIN, &old);
    // It began after the compilation, and before the swap.
    let open = admit(&old, "ann", "o3");
    let daily = reloaded(Written { daily: true, ..PLAIN }, &monthly);
    let only = reloaded(Written { only_at_once: true, ..PLAIN }, &daily);
    for later in [&monthly, &daily, &only] {
        assert_eq!(in_flight(later), 1);
    }
    let more = admit(&daily, "ann", "o3");
    assert_eq!(in_flight(&only), 2);
    drop((open, more));
    assert_eq!(in_flight(&only), 0);
}

#[test]
fn a_client_that_moves_to_another_group_is_another_subject_of_the_store() {
    let old = snapshot(Written { redis: true, ..PLAIN }, &[("ann", Some("red"))]);
    let subject = |snapshot: &Snapshot, group: &str| {
        let all = applying(snapshot, "ann", "o3");
        let counter = &all.iter().find(|applied| *applied.limit.name == *"client").unwrap().counter;
        !counter.is_of_another(&Subject::client("sluicegate", Some("ann"), Some(group)))
    };
    assert!(subject(&old, "red"));
    let new = old.with_clients(files(&[("ann", Some(Some("blue")))])).snapshot;
    assert!(subject(&new, "blue") && !subject(&new, "red"));
    // A store has other counts than this process.
    let alone = reloaded(PLAIN, &new);
    let _open = admit(&new, "ann", "o3");
    assert_eq!(used(&alone, "client", "ann", "o3"), 0);
}

#[derive(Debug, Clone)]
enum Event {
    /// Another configuration is compiled; the one before serves requests for a while.
    Reload(Written),
    /// The file of a client: in this group, or gone.
    File(usize, Option<Option<bool>>),
    /// A request, under the newest configuration or the one before.
    Begin { client: usize, model: usize, under_old: bool },
    /// The end of an open request: what it has used, or that no response came.
    End { open: prop::sample::Index, used: Option<u64> },
}

fn event() -> impl Strategy<Value = Event> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let written = (1..3_u64, flags).prop_map(|(millions, (daily, as_one, grouped, turned, tokens))| {
        Written { quantity: millions * 1_000_000, daily, as_one, grouped, turned, tokens, ..PLAIN }
    });
    prop_oneof![
        2 => written.prop_map(Event::Reload),
        2 => (0..3_usize, any::<Option<Option<bool>>>()).prop_map(|(client, file)| Event::File(client, file)),
        5 => (0..3_usize, 0..3_usize, any::<bool>()).prop_map(|(client, model, under_old)| Event::Begin { client, model, under_old }),
        3 => (any::<prop::sample::Index>(), prop::option::of(0..500_u64)).prop_map(|(open, used)| Event::End { open, used }),
    ]
}

/// What counts as used, by a naive account: of the number of a limit's beginning, and the name of a subject.
type Book = HashMap<(u64, String), u64>;

/// A configuration in the naive account.
struct State {
    snapshot: Snapshot,
    written: Written,
    /// When each limit has begun to count: with the same number, counts go on.
    begun: HashMap<&'static str, u64>,
    groups: HashMap<&'static str, Option<bool>>,
}

impl State {
    /// The counts of a request, by the names of its limits.
    fn subjects(&self, client: &'static str, model: &str) -> Vec<(&'static str, (u64, String))> {
        let Some(group) = self.groups.get(client) else { return Vec::new() };
        let pattern = if model.starts_with("gpt-4o") { "gpt-4o*" } else { model };
        let mut all = vec![("client", client.to_owned())];
        if ["gpt-4o*", "o3"].contains(&pattern) {
            all.push(("model", pattern.to_owned()));
        }
        if self.written.grouped {
            let group = group.map_or_else(|| format!("only {client}"), |is_red| is_red.to_string());
            all.push(("group", if self.written.as_one { "all".to_owned() } else { group }));
        }
        all.into_iter().map(|(limit, subject)| (limit, (self.begun[limit], subject))).collect()
    }

    fn reloaded(&self, written: Written, beginnings: &mut u64) -> Self {
        let mut begun = self.begun.clone();
        let mut begins = |limit| {
            *beginnings += 1;
            begun.insert(limit, *beginnings);
        };
        if written.daily != self.written.daily {
            begins("client");
        }
        if written.as_one != self.written.as_one || !self.written.grouped {
            begins("group");
        }
        let snapshot = reloaded(written, &self.snapshot);
        Self { snapshot, written, begun, groups: self.groups.clone() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is reloaded and changed between admissions and endings: each limit counts each request once, and forgets none.
    #[test]
    fn changes_forgive_nothing_and_charge_nothing_twice(events in prop::collection::vec(event(), 1..40)) {
        let mut beginnings = 0;
        let state = State {
            snapshot: snapshot(PLAIN, &[]),
            written: PLAIN,
            begun: ["client", "group", "model"].map(|limit| (limit, 0)).into(),
            groups: HashMap::new(),
        };
        let (mut old, mut new): (Option<State>, State) = (None, state);
        let mut book = Book::new();
        let mut open = Vec::new();
        for event in events {
            match event {
                Event::Reload(written) => {
                    let next = new.reloaded(written, &mut beginnings);
                    old = Some(std::mem::replace(&mut new, next));
                }
                Event::File(client, file) => {
                    let name = CLIENTS[client];
                    let group = file.map(|group| group.map(|is_red| if is_red { "red" } else { "blue" }));
                    new.snapshot = new.snapshot.with_clients(files(&[(name, group)])).snapshot;
                    match file {
                        Some(group) => new.groups.insert(name, group),
                        None => new.groups.remove(name),
                    };
                }
                Event::Begin { client, model, under_old } => {
                    let state = old.as_ref().filter(|_| under_old).unwrap_or(&new);
                    let (client, model) = (CLIENTS[client], MODELS[model]);
                    if state.snapshot.callers.by_name(client).is_some() {
                        let subjects = state.subjects(client, model);
                        for (_, subject) in &subjects {
                            *book.entry(subject.clone()).or_default() += 1;
                        }
                        open.push((admit(&state.snapshot, client, model), subjects));
                    }
                }
                Event::End { open: index, used } if !open.is_empty() => {
                    let (admitted, subjects) = open.remove(index.index(open.len()));
                    match used {
                        Some(used) => {
                            let tokens = TokenCount { output: used, ..TokenCount::default() };
                            admitted.settle(Demand { tokens, ..Demand::default() }, at());
                        }
                        None => {
                            for (_, subject) in subjects {
                                *book.get_mut(&subject).unwrap() -= 1;
                            }
                            drop(admitted);
                        }
                    }
                }
                Event::End { .. } => {}
            }
            for state in old.iter().chain([&new]) {
                for client in state.groups.keys() {
                    for model in MODELS {
                        for (limit, subject) in state.subjects(client, model) {
                            let expected = book.get(&subject).copied().unwrap_or_default();
                            prop_assert_eq!(used(&state.snapshot, limit, client, model), expected, "{} {}", limit, client);
                        }
                    }
                }
            }
        }
    }
}
