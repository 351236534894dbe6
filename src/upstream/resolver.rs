//! Name resolution for upstream connections: getaddrinfo(3) on threads of its own.
//!
//! getaddrinfo honours what operators configure (nsswitch.conf, /etc/hosts, resolv.conf), but it blocks, for half a minute if a name
//! server is silent. Each lookup therefore has a thread, and all who wait for the same name share one lookup: a name whose server is
//! silent holds one thread, and delays no other name. getaddrinfo tells no TTL, so an answer counts for [`FRESH`]; addresses that change
//! are followed after that. While lookups of a name fail or take long, its last good answer is used, for [`LONGEST_STALE`] at most.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::watch;
use tower_service::Service;

/// For so long an answer is used without another lookup.
const FRESH: Duration = Duration::from_secs(5);

/// For so long the last good answer is used while lookups fail.
const LONGEST_STALE: Duration = Duration::from_secs(3600);

/// For so long a lookup is waited for when there is a last good answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lookups at once, each on its thread. Further names wait for one of them to end.
const MOST_LOOKUPS: usize = 64;

/// Requests that wait for one name at once.
const MOST_WAITING: usize = 16_384;

/// Names that are remembered. The names of a configuration are few; those of earlier ones are forgotten first.
const MOST_NAMES: usize = 4_096;

/// Enough for getaddrinfo and the modules of nsswitch.conf.
const STACK: usize = 1 << 20;

/// Finds the addresses of a name. Blocks.
pub(super) trait Lookup: Send + Sync {
    /// The addresses of `name`, the preferred one first.
    ///
    /// # Errors
    /// There are none, or that could not be found out.
    fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>>;
}

/// Resolves names, and shares lookups and answers between all of its clones.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Shared>);

/// Why a name has no addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ResolveError {
    /// The lookup failed.
    #[error("name resolution failed")]
    Failed(#[source] Arc<io::Error>),
    /// Too many requests wait for the name.
    #[error("too many requests wait for the resolution of the name")]
    Busy,
}

/// The addresses of a name.
pub(super) type Addresses = std::vec::IntoIter<SocketAddr>;

type Outcome = Result<Arc<[SocketAddr]>, ResolveError>;

struct Shared {
    lookup: Box<dyn Lookup>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bounded by [`MOST_NAMES`] beside the names that are being looked up.
    names: HashMap<Arc<str>, Entry>,
    /// Lookups that have a thread.
    running: usize,
    /// Names whose lookup waits for a thread; each once.
    queue: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Entry {
    answer: Option<Answer>,
    lookup: Option<Running>,
    /// Lookups have failed since the last good answer, and the log says so.
    failing: bool,
}

/// A good answer.
struct Answer {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
    /// No other lookup before then.
    fresh_until: Instant,
}

/// A lookup under way, or waiting for a thread.
struct Running {
    since: Instant,
    outcome: watch::Sender<Option<Outcome>>,
}

/// What a request for a name gets at once.
enum Next {
    Known(Arc<[SocketAddr]>),
    /// The outcome of a lookup, or `stale` if that takes long.
    Wait {
        outcome: watch::Receiver<Option<Outcome>>,
        stale: Option<Arc<[SocketAddr]>>,
        patience: Duration,
    },
    Busy,
}

impl Resolver {
    /// The resolver of the process, which asks the system.
    pub(super) fn system() -> Self {
        static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::new(System));
        SYSTEM.clone()
    }

    /// A resolver that asks `lookup`.
    pub(super) fn new(lookup: impl Lookup + 'static) -> Self {
        Self(Arc::new(Shared { lookup: Box::new(lookup), state: Mutex::default() }))
    }

    /// The addresses of `name`: known ones while they are fresh, otherwise those of a lookup.
    ///
    /// # Errors
    /// [`ResolveError`]: the lookup failed, and there is no last good answer.
    pub(super) async fn resolve(&self, name: &str) -> Outcome {
        let (mut outcome, stale, patience) = match self.0.next(name, Instant::now()) {
            Next::Known(addresses) => return Ok(addresses),
            Next::Busy => return Err(ResolveError::Busy),
            Next::Wait { outcome, stale, patience } => (outcome, stale, patience),
        };
        let looked_up = async move {
            let outcome = outcome.wait_for(Option::is_some).await;
            outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(ResolveError::Busy))
        };
        let Some(stale) = stale else { return looked_up.await };
        // A lookup that fails says so with the last good answer itself.
        tokio::time::timeout(patience, looked_up).await.unwrap_or(Ok(stale))
    }
}

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.to_vec().into_iter()) })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Asks the system by getaddrinfo(3).
struct System;

impl Lookup for System {
    fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok((name, 0).to_socket_addrs()?.collect())
    }
}

impl Shared {
    fn next(self: &Arc<Self>, name: &str, now: Instant) -> Next {
        let mut state = self.lock();
        state.make_room(name, now);
        let (name, entry) = state.entry(name);
        let stale = match &entry.answer {
            Some(answer) if now < answer.fresh_until => return Next::Known(answer.addresses.clone()),
            Some(answer) => answer.usable(now),
            None => None,
        };
        if let Some(Running { since, outcome }) = &entry.lookup {
            let waited = now.saturating_duration_since(*since);
            let is_full = outcome.receiver_count() >= MOST_WAITING;
            return match stale {
                Some(stale) if waited >= PATIENCE || is_full => Next::Known(stale),
                None if is_full => Next::Busy,
                stale => Next::Wait {
                    outcome: outcome.subscribe(),
                    stale,
                    patience: PATIENCE.saturating_sub(waited),
                },
            };
        }
        let (sender, outcome) = watch::channel(None);
        entry.lookup = Some(Running { since: now, outcome: sender });
        state.queue.push_back(name);
        drop(state);
        self.start_lookups();
        Next::Wait { outcome, stale, patience: PATIENCE }
    }

    /// Gives a thread to each waiting lookup, as far as there may be more.
    fn start_lookups(self: &Arc<Self>) {
        while let Some(name) = self.lock().next_lookup() {
            let (shared, asked) = (self.clone(), name.clone());
            let look_up = move || {
                let found = shared.lookup.lookup(&asked);
                shared.finish(&asked, found, Instant::now());
                shared.start_lookups();
            };
            let thread = thread::Builder::new().name("resolver".into()).stack_size(STACK);
            if let Err(error) = thread.spawn(look_up) {
                self.finish(&name, Err(error), Instant::now());
            }
        }
    }

    /// A lookup has ended: everybody who waits for it gets the answer, or the last good one.
    fn finish(&self, name: &str, found: io::Result<Vec<SocketAddr>>, now: Instant) {
        let mut state = self.lock();
        state.running -= 1;
        let Some(entry) = state.names.get_mut(name) else { return };
        let outcome = match found {
            Ok(addresses) if !addresses.is_empty() => Ok(entry.found(name, addresses.into(), now)),
            Ok(_) => entry.failed(name, io::Error::other("the name has no address"), now),
            Err(error) => entry.failed(name, error, now),
        };
        if let Some(lookup) = entry.lookup.take() {
            lookup.outcome.send_replace(Some(outcome));
        }
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next name to look up; its thread is counted.
    fn next_lookup(&mut self) -> Option<Arc<str>> {
        if self.running >= MOST_LOOKUPS {
            return None;
        }
        let name = self.queue.pop_front()?;
        self.running += 1;
        Some(name)
    }

    fn entry(&mut self, name: &str) -> (Arc<str>, &mut Entry) {
        let known = self.names.get_key_value(name).map(|(known, _)| known.clone());
        let name = known.unwrap_or_else(|| name.into());
        (name.clone(), self.names.entry(name).or_default())
    }

    /// Forgets what is of no use, if a further name would be too many.
    fn make_room(&mut self, name: &str, now: Instant) {
        if self.names.len() < MOST_NAMES || self.names.contains_key(name) {
            return;
        }
        let is_fresh = |entry: &Entry| entry.answer.as_ref().is_some_and(|answer| now < answer.fresh_until);
        self.names.retain(|_, entry| entry.lookup.is_some() || is_fresh(entry));
    }
}

impl Entry {
    fn found(&mut self, name: &str, addresses: Arc<[SocketAddr]>, now: Instant) -> Arc<[SocketAddr]> {
        if std::mem::take(&mut self.failing) {
            tracing::info!(name, "name resolution succeeds again");
        }
        self.answer = Some(Answer { addresses: addresses.clone(), at: now, fresh_until: now + FRESH });
        addresses
    }

    fn failed(&mut self, name: &str, error: io::Error, now: Instant) -> Outcome {
        let usable = self.answer.as_mut().filter(|answer| answer.usable(now).is_some());
        let Some(answer) = usable else {
            self.answer = None;
            return Err(ResolveError::Failed(Arc::new(error)));
        };
        answer.fresh_until = now + FRESH;
        let addresses = answer.addresses.clone();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(name, %error, "name resolution failed; the last good answer is used for up to an hour");
        }
        Ok(addresses)
    }
}

impl Answer {
    /// The addresses, unless they are too old.
    fn usable(&self, now: Instant) -> Option<Arc<[SocketAddr]>> {
        let age = now.saturating_duration_since(self.at);
        (age < LONGEST_STALE).then(|| self.addresses.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{
            Condvar,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    /// A name server that answers each name with what was set for it, and is silent about all others until it is released.
    #[derive(Clone, Default)]
    struct Scripted(Arc<Inner>);

    #[derive(Default)]
    struct Inner {
        answers: Mutex<HashMap<String, Option<u8>>>,
        changed: Condvar,
        lookups: AtomicUsize,
    }

    impl Scripted {
        /// From now on `name` has this address; with `None` lookups of it fail.
        fn set(&self, name: &str, host: Option<u8>) {
            self.0.answers.lock().unwrap().insert(name.to_owned(), host);
            self.0.changed.notify_all();
        }

        fn silence(&self, name: &str) {
            self.0.answers.lock().unwrap().remove(name);
        }

        fn lookups(&self) -> usize {
            self.0.lookups.load(Ordering::SeqCst)
        }
    }

    impl Lookup for Scripted {
        fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
            self.0.lookups.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.0.answers.lock().unwrap();
            loop {
                match answers.get(name) {
                    Some(Some(host)) => return Ok(vec![address(*host)]),
                    Some(None) => return Err(io::Error::other("no such host")),
                    None => answers = self.0.changed.wait(answers).unwrap(),
                }
            }
        }
    }

    fn address(host: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, host), 0).into()
    }

    /// Makes the answer for `name` as old as this.
    fn age(resolver: &Resolver, name: &str, by: Duration) {
        let mut state = resolver.0.lock();
        let answer = state.names.get_mut(name).unwrap().answer.as_mut().unwrap();
        answer.at -= by;
        answer.fresh_until -= by;
    }

    async fn resolves_to(resolver: &Resolver, name: &str, host: u8) {
        assert_eq!(resolver.resolve(name).await.unwrap()[..], [address(host)]);
    }

    #[tokio::test]
    async fn a_silent_name_delays_no_other_and_holds_one_thread() {
        let names = Scripted::default();
        names.set("alive.test", Some(1));
        let resolver = Resolver::new(names.clone());
        let waiting: Vec<_> = (0..1500)
            .map(|_| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.resolve("dead.test").await })
            })
            .collect();
        tokio::task::yield_now().await;
        resolves_to(&resolver, "alive.test", 1).await;
        // The thread that looks up the silent name may begin later.
        let both_begun = async {
            while names.lookups() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), both_begun).await.unwrap();
        assert_eq!((names.lookups(), resolver.0.lock().running), (2, 1), "one for each name");
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        names.set("dead.test", Some(2));
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap()[..], [address(2)], "all share the answer");
        }
        assert_eq!(names.lookups(), 2);
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_while_and_a_changed_address_is_followed() {
        let names = Scripted::default();
        names.set("upstream.test", Some(1));
        let resolver = Resolver::new(names.clone());
        resolves_to(&resolver, "upstream.test", 1).await;
        names.set("upstream.test", Some(2));
        resolves_to(&resolver, "upstream.test", 1).await;
        age(&resolver, "upstream.test", FRESH);
        resolves_to(&resolver, "upstream.test", 2).await;
        assert_eq!(names.lookups(), 2);
    }

    #[tokio::test]
    async fn the_last_good_answer_is_used_while_lookups_fail_but_not_for_ever() {
        let names = Scripted::default();
        names.set("upstream.test", Some(1));
        let resolver = Resolver::new(names.clone());
        resolves_to(&resolver, "upstream.test", 1).await;
        names.set("upstream.test", None);
        for lookups in 2..4 {
            age(&resolver, "upstream.test", FRESH);
            resolves_to(&resolver, "upstream.test", 1).await;
            assert_eq!(names.lookups(), lookups);
        }
        age(&resolver, "upstream.test", LONGEST_STALE);
        let error = resolver.resolve("upstream.test").await.unwrap_err();
        assert!(matches!(error, ResolveError::Failed(_)), "{error:?}");
        names.set("upstream.test", Some(2));
        resolves_to(&resolver, "upstream.test", 2).await;
    }

    /// A caller that waited for the name server would wait for ever.
    #[tokio::test]
    async fn the_last_good_answer_is_used_while_the_server_is_silent() {
        let names = Scripted::default();
        names.set("upstream.test", Some(1));
        let resolver = Resolver::new(names.clone());
        resolves_to(&resolver, "upstream.test", 1).await;
        names.silence("upstream.test");
        age(&resolver, "upstream.test", FRESH);
        resolves_to(&resolver, "upstream.test", 1).await;
        names.set("upstream.test", None);
    }

    /// Where nobody else may wait for the lookup.
    #[tokio::test]
    async fn the_last_good_answer_is_used_while_too_many_wait() {
        let names = Scripted::default();
        names.set("upstream.test", Some(1));
        let resolver = Resolver::new(names.clone());
        resolves_to(&resolver, "upstream.test", 1).await;
        for name in ["upstream.test", "new.test"] {
            names.silence(name);
        }
        age(&resolver, "upstream.test", FRESH);
        let mut waiting = Vec::new();
        for name in ["upstream.test", "new.test"] {
            for _ in 0..MOST_WAITING {
                waiting.push(resolver.0.next(name, Instant::now()));
            }
        }
        assert!(matches!(resolver.0.next("upstream.test", Instant::now()), Next::Known(_)));
        assert!(matches!(resolver.0.next("new.test", Instant::now()), Next::Busy));
        drop(waiting);
        for name in ["upstream.test", "new.test"] {
            names.set(name, None);
        }
    }

    #[tokio::test]
    async fn an_error_is_shared_and_the_next_request_asks_again() {
        let names = Scripted::default();
        let resolver = Resolver::new(names.clone());
        let two = [resolver.resolve("upstream.test"), resolver.resolve("upstream.test")];
        let asked = async { names.set("upstream.test", None) };
        let [first, second] = two;
        let (first, second, ()) = tokio::join!(first, second, asked);
        assert!(first.is_err() && second.is_err());
        assert_eq!(names.lookups(), 1);
        names.set("upstream.test", Some(1));
        resolves_to(&resolver, "upstream.test", 1).await;
    }

    #[tokio::test]
    async fn lookups_are_bounded_and_further_names_take_turns() {
        let names = Scripted::default();
        let resolver = Resolver::new(names.clone());
        let name = |number: usize| format!("{number}.test");
        let waiting: Vec<_> = (0..=MOST_LOOKUPS)
            .map(|number| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.resolve(&name(number)).await.map(|_| ()) })
            })
            .collect();
        while resolver.0.lock().queue.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(resolver.0.lock().running, MOST_LOOKUPS);
        (0..=MOST_LOOKUPS).for_each(|number| names.set(&name(number), Some(1)));
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    }
}
