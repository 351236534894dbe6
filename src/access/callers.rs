//! The known callers, and which routes and models each may use.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Credential, Credentials, Refused, Sharded};
use crate::{
    key_digest::{KeyDigest, key_digest},
    priority::Priority,
};

/// The owner of one or several client keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// `[client.NAME]`
    pub name: Arc<str>,
    /// What the caller's own table allows.
    pub rights: Rights,
    /// `[group.NAME]` that the caller belongs to.
    pub group: Option<Arc<str>>,
    /// What the group allows. A caller may use what both allow.
    pub group_rights: Option<Arc<Rights>>,
    /// When the caller's keys expire.
    pub expires: Option<SystemTime>,
    /// What the caller's access lines have as `tags`, names and values.
    pub tags: Box<[(Box<str>, Box<str>)]>,
    /// Priority of the caller's requests.
    pub priority: Priority,
    /// Whether open streams of the caller are cut when what they were granted is withdrawn.
    pub cut_when_withdrawn: bool,
}

/// The routes and models that a table of the configuration allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Routes by name; `None`: all.
    pub routes: Option<Vec<Arc<str>>>,
    /// Models, a trailing `*` matching any rest; `None`: all.
    pub models: Option<Vec<String>>,
}

/// A caller, with the digest of the key by which it is known.
#[derive(Debug, Clone)]
pub struct KnownKey {
    /// The digest.
    pub key: KeyDigest,
    /// The caller.
    pub caller: Arc<Caller>,
}

impl Caller {
    /// Whether the caller's keys have expired. Reads the clock only for a caller whose keys expire at all.
    pub fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= SystemTime::now())
    }

    /// Whether this caller may use the route of this name.
    pub fn may_use_route(&self, route: &str) -> bool {
        self.all_rights().all(|rights| {
            rights.routes.as_ref().is_none_or(|allowed| allowed.iter().any(|name| **name == *route))
        })
    }

    /// Whether this caller may use the model of this name.
    pub fn may_use_model(&self, model: &str) -> bool {
        self.all_rights().all(|rights| {
            rights.models.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| fits(pattern, model)))
        })
    }

    /// Whether this caller may use some models only.
    pub fn is_limited_to_models(&self) -> bool {
        self.all_rights().any(|rights| rights.models.is_some())
    }

    /// The models that the caller's table or its group's lists, as they are written.
    pub fn listed_models(&self) -> impl Iterator<Item = &str> {
        self.all_rights().flat_map(|rights| rights.models.iter().flatten()).map(String::as_str)
    }

    /// The whole names, without a `*`, among the models that the caller's table or its group's lists.
    pub fn named_models(&self) -> impl Iterator<Item = &str> {
        self.listed_models().filter(|name| !name.ends_with('*'))
    }

    fn all_rights(&self) -> impl Iterator<Item = &Rights> {
        std::iter::once(&self.rights).chain(self.group_rights.as_deref())
    }
}

/// Whether a pattern, in which a trailing `*` matches any rest, fits the name of a model.
pub fn fits(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |beginning| model.starts_with(beginning))
}

/// A caller with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCaller {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The digests of its keys.
    pub keys: Arc<[KeyDigest]>,
    /// What its file says, if it has a file of its own.
    pub own: Option<Arc<OwnTerms>>,
}

/// What the file of a client says itself, so that the client can be compiled again where its group or the limits have changed, without its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnTerms {
    /// Names of limits.
    pub limits: Vec<Arc<str>>,
    /// Its priority.
    pub priority: Option<Priority>,
    /// Whether open streams are cut when what they were granted is withdrawn.
    pub cut: Option<bool>,
}

/// All callers, by their names and by the digests of their keys. A copy shares nearly everything with the original (see [`Sharded`]).
///
/// The look-up need not take constant time: its duration depends on the digest of the presented key, and an attacker cannot choose
/// digests that approach a known one without breaking SHA-256.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    by_key: Sharded<KeyDigest, Arc<Caller>>,
    by_name: Sharded<Arc<str>, KnownCaller>,
    /// Number of callers whose open streams may have to be cut.
    cut: usize,
    /// Of these, the number of those whose keys expire.
    cut_at_expiry: usize,
}

impl Callers {
    /// The caller that this key belongs to. A key in the query is not accepted, because every proxy on the way has written it to its log.
    pub fn find(&self, credential: &Credential) -> Option<KnownKey> {
        if credential.in_query() {
            return None;
        }
        let key = key_digest(credential.bytes());
        self.by_key.get(&key).map(|caller| KnownKey { key, caller: caller.clone() })
    }

    /// The caller that the key of this digest belongs to.
    pub fn by_key(&self, key: &KeyDigest) -> Option<&Arc<Caller>> {
        self.by_key.get(key)
    }

    /// Whether open streams of any caller may have to be cut.
    pub fn may_cut(&self) -> bool {
        self.cut > 0
    }

    /// Whether open streams of any caller are to be cut when its keys expire.
    pub fn may_cut_at_expiry(&self) -> bool {
        self.cut_at_expiry > 0
    }

    /// The caller of this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Caller>> {
        self.by_name.get(name).map(|known| &known.caller)
    }

    /// The caller of this name, with its keys.
    pub fn known(&self, name: &str) -> Option<&KnownCaller> {
        self.by_name.get(name)
    }

    /// All callers, in no order.
    pub fn all(&self) -> impl Iterator<Item = &KnownCaller> {
        self.by_name.iter().map(|(_, known)| known)
    }

    /// The names of all callers, in the order of the alphabet.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.by_name.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The callers whose keys have expired or will within `soon`; at most `listed` of them by name. Looks at each caller.
    pub fn expiries(&self, soon: Duration, listed: usize) -> Expiries {
        let now = SystemTime::now();
        let mut expiries = Expiries::default();
        for KnownCaller { caller, .. } in self.all() {
            let Some(expires) = caller.expires.filter(|expires| *expires <= now + soon) else { continue };
            let is_over = expires <= now;
            expiries.expired += usize::from(is_over);
            expiries.soon += usize::from(!is_over);
            expiries.first.push((expires, caller.name.clone()));
            if expiries.first.len() >= 2 * listed {
                expiries.first.sort();
                expiries.first.truncate(listed);
            }
        }
        expiries.first.sort();
        expiries.first.truncate(listed);
        expiries
    }

    /// Number of callers.
    pub fn count(&self) -> usize {
        self.by_name.count()
    }

    /// The caller that a request with these credentials comes from: that of the known ones among them. A key in the query proves nothing, but
    /// one that is known contradicts the key of another caller.
    ///
    /// # Errors
    /// The keys of two different callers.
    pub fn find_one(&self, credentials: &Credentials) -> Result<Option<KnownKey>, Refused> {
        let mut found: Option<KnownKey> = None;
        let mut is_proven = false;
        for credential in credentials.iter() {
            let key = key_digest(credential.bytes());
            let Some(caller) = self.by_key.get(&key) else { continue };
            if found.as_ref().is_some_and(|other| !Arc::ptr_eq(&other.caller, caller)) {
                return Err(Refused::Different);
            }
            found = Some(KnownKey { key, caller: caller.clone() });
            is_proven |= !credential.in_query();
        }
        Ok(found.filter(|_| is_proven))
    }

    /// Adds a caller of the configuration with the digests of its keys.
    pub fn add(&mut self, keys: impl IntoIterator<Item = KeyDigest>, caller: &Arc<Caller>) {
        self.put(KnownCaller { caller: caller.clone(), keys: keys.into_iter().collect(), own: None });
    }

    /// Adds a caller, in place of the one that has its name. A digest that comes twice belongs to the last caller.
    pub fn put(&mut self, known: KnownCaller) {
        let name = known.caller.name.clone();
        self.remove(&name);
        let (cut, cut_at_expiry) = cuts(&known.caller);
        self.cut += cut;
        self.cut_at_expiry += cut_at_expiry;
        for key in known.keys.iter() {
            self.by_key.insert(*key, known.caller.clone());
        }
        self.by_name.insert(name, known);
    }

    /// Removes the caller of this name, and returns it.
    pub fn remove(&mut self, name: &str) -> Option<KnownCaller> {
        let known = self.by_name.remove(name)?;
        let (cut, cut_at_expiry) = cuts(&known.caller);
        self.cut -= cut;
        self.cut_at_expiry -= cut_at_expiry;
        for key in known.keys.iter() {
            if self.by_key.get(key).is_some_and(|owner| owner.name == known.caller.name) {
                self.by_key.remove(key);
            }
        }
        Some(known)
    }

    /// The caller that is here already, if it equals `caller`.
    pub fn same(&self, caller: &Caller) -> Option<Arc<Caller>> {
        self.by_name(&caller.name).filter(|known| ***known == *caller).cloned()
    }

    /// Whether there are no callers.
    pub fn is_empty(&self) -> bool {
        self.by_name.count() == 0
    }
}

/// The callers whose keys have expired, or expire soon.
#[derive(Debug, Clone, Default)]
pub struct Expiries {
    /// Number of callers whose keys have expired.
    pub expired: usize,
    /// Number of callers whose keys expire soon.
    pub soon: usize,
    /// The first of both, in the order of time.
    pub first: Vec<(SystemTime, Arc<str>)>,
}

/// What a caller adds to the numbers of those that may be cut, and of those that may be cut when their keys expire.
fn cuts(caller: &Caller) -> (usize, usize) {
    let is_cut = caller.cut_when_withdrawn;
    (usize::from(is_cut), usize::from(is_cut && caller.expires.is_some()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{super::credentials, *};

    fn rights(routes: Option<&[&str]>, models: Option<&[&str]>) -> Rights {
        Rights {
            routes: routes.map(|all| all.iter().map(|&name| name.into()).collect()),
            models: models.map(|all| all.iter().map(|&name| name.into()).collect()),
        }
    }

    fn caller(routes: Option<&[&str]>, models: Option<&[&str]>) -> Caller {
        Caller { name: "team".into(), rights: rights(routes, models), ..Caller::default() }
    }

    #[test]
    fn routes_are_named_and_models_may_be_patterns() {
        let free = caller(None, None);
        assert!(free.may_use_route("any") && free.may_use_model("any"));

        let bound = caller(Some(&["openai"]), Some(&["gpt-4o*", "o3"]));
        assert!(bound.may_use_route("openai") && !bound.may_use_route("openai2") && !bound.may_use_route(""));
        assert!(
            bound.may_use_model("gpt-4o") && bound.may_use_model("gpt-4o-mini") && bound.may_use_model("o3")
        );
        assert!(
            !bound.may_use_model("gpt-4")
                && !bound.may_use_model("o3-mini")
                && !bound.may_use_model("GPT-4o")
        );

        let none = caller(Some(&[]), Some(&[]));
        assert!(!none.may_use_route("openai") && !none.may_use_model("o3"));
    }

    #[test]
    fn a_group_and_its_client_must_both_allow() {
        let in_group = Caller {
            group_rights: Some(Arc::new(rights(Some(&["openai", "local"]), Some(&["gpt-4o*"])))),
            ..caller(Some(&["openai", "azure"]), None)
        };
        assert!(in_group.may_use_route("openai"));
        assert!(!in_group.may_use_route("local") && !in_group.may_use_route("azure"));
        assert!(in_group.may_use_model("gpt-4o-mini") && !in_group.may_use_model("o3"));
        assert!(in_group.is_limited_to_models() && !caller(None, None).is_limited_to_models());
    }

    #[test]
    fn a_caller_is_found_by_its_key() {
        // printf abc | sha256sum (FIPS 180-4's first example)
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let abc = std::array::from_fn(|at| u8::from_str_radix(&abc[2 * at..2 * at + 2], 16).unwrap());
        let mut callers = Callers::default();
        callers.add([abc], &Arc::new(caller(None, None)));
        assert!(!callers.is_empty() && Callers::default().is_empty());

        let found = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", key.parse().unwrap());
            callers
                .find(credentials(&headers, None).unwrap().only().unwrap())
                .map(|known| known.caller.name.to_string())
        };
        assert_eq!(found("abc").as_deref(), Some("team"));
        assert_eq!(found("abd"), None);
        let asked = credentials(&HeaderMap::new(), Some("key=abc")).unwrap();
        assert!(callers.find(asked.only().unwrap()).is_none() && callers.find_one(&asked).unwrap().is_none());
    }

    #[test]
    fn of_several_keys_the_known_one_counts_and_two_callers_are_a_conflict() {
        let mut callers = Callers::default();
        for (name, keys) in [("one", ["sk-1", "sk-1b"].as_slice()), ("two", &["sk-2"])] {
            let caller = Arc::new(Caller { name: name.into(), ..caller(None, None) });
            callers.add(keys.iter().map(|key| key_digest(key.as_bytes())), &caller);
        }
        let found = |keys: &[&str], query: Option<&str>| {
            let mut headers = HeaderMap::new();
            keys.iter().for_each(|key| _ = headers.append("x-api-key", key.parse().unwrap()));
            let presented = credentials(&headers, query).unwrap();
            callers.find_one(&presented).map(|known| known.map(|known| known.caller.name.to_string()))
        };
        let known = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(found(&["sk-1", "sk-x"], None), known("one"));
        assert_eq!(found(&["sk-x", "", "sk-y", "sk-2"], None), known("two"));
        assert_eq!(found(&["sk-1", "sk-1b"], None), known("one"));
        assert_eq!(found(&["sk-x", "sk-y"], None), Ok(None));
        assert_eq!(found(&["sk-1", "sk-2"], None), Err(Refused::Different));
        assert_eq!(found(&["sk-1"], Some("key=sk-x")), known("one"));
        assert_eq!(found(&["sk-1"], Some("key=sk-2")), Err(Refused::Different));
        assert_eq!(found(&["sk-x"], Some("key=sk-2")), Ok(None));
    }
}
