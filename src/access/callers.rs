//! The known callers, and which routes and models each may use.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use super::{Credential, Credentials, Refused};
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
    pub group_rights: Option<Rights>,
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
        std::iter::once(&self.rights).chain(&self.group_rights)
    }
}

/// Whether a pattern, in which a trailing `*` matches any rest, fits the name of a model.
pub fn fits(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |beginning| model.starts_with(beginning))
}

/// All callers, by the digests of their keys.
///
/// The look-up need not take constant time: its duration depends on the digest of the presented key, and an attacker cannot choose
/// digests that approach a known one without breaking SHA-256.
#[derive(Debug, Default)]
pub struct Callers(HashMap<KeyDigest, Arc<Caller>>);

impl Callers {
    /// The caller that this key belongs to. A key in the query is not accepted, because every proxy on the way has written it to its log.
    pub fn find(&self, credential: &Credential) -> Option<KnownKey> {
        if credential.in_query() {
            return None;
        }
        let key = key_digest(credential.bytes());
        self.0.get(&key).map(|caller| KnownKey { key, caller: caller.clone() })
    }

    /// The caller that the key of this digest belongs to.
    pub fn by_key(&self, key: &KeyDigest) -> Option<&Arc<Caller>> {
        self.0.get(key)
    }

    /// Whether open streams of any caller may have to be cut.
    pub fn may_cut(&self) -> bool {
        self.0.values().any(|caller| caller.cut_when_withdrawn)
    }

    /// Whether open streams of any caller are to be cut when its keys expire.
    pub fn may_cut_at_expiry(&self) -> bool {
        self.0.values().any(|caller| caller.cut_when_withdrawn && caller.expires.is_some())
    }

    /// The caller of this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Caller>> {
        self.0.values().find(|caller| *caller.name == *name)
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
            let Some(caller) = self.0.get(&key) else { continue };
            if found.as_ref().is_some_and(|other| !Arc::ptr_eq(&other.caller, caller)) {
                return Err(Refused::Different);
            }
            found = Some(KnownKey { key, caller: caller.clone() });
            is_proven |= !credential.in_query();
        }
        Ok(found.filter(|_| is_proven))
    }

    /// Adds a caller with the digests of its keys. A digest that comes twice belongs to the last caller.
    pub fn add(&mut self, keys: impl IntoIterator<Item = KeyDigest>, caller: &Arc<Caller>) {
        self.0.extend(keys.into_iter().map(|key| (key, caller.clone())));
    }

    /// The caller that one of these keys belongs to here, if it equals `caller`.
    pub fn same(&self, keys: &[KeyDigest], caller: &Caller) -> Option<Arc<Caller>> {
        keys.iter().filter_map(|key| self.0.get(key)).find(|known| ***known == *caller).cloned()
    }

    /// Whether there are no callers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
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
            group_rights: Some(rights(Some(&["openai", "local"]), Some(&["gpt-4o*"]))),
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
