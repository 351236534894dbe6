//! What a changed configuration, or the time at which a key expires, takes away from requests that are open.

use crate::{access::Callers, body::OpenGrant};

/// Whether an open exchange is to be cut because what it was granted is withdrawn: its key is not a key of its client any more or has expired, or its client
/// may not use its route, or its model, any more. `on_revoke` is that of the client now; of a client that is not there any more, as it was.
pub fn is_cut(callers: &Callers, grant: &OpenGrant) -> bool {
    let Some(caller) = callers.by_name(&grant.caller) else { return grant.cut };
    let is_key_known =
        grant.key.is_none_or(|key| callers.by_key(&key).is_some_and(|owner| owner.name == caller.name));
    let is_granted = is_key_known
        && !caller.is_expired()
        && grant.route.as_deref().is_none_or(|route| caller.may_use_route(route))
        && grant.model.as_deref().is_none_or(|model| caller.may_use_model(model));
    !is_granted && caller.cut_when_withdrawn
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::access::{Caller, Rights};

    fn team(cut: bool) -> Caller {
        Caller { name: "team".into(), cut_when_withdrawn: cut, ..Caller::default() }
    }

    /// An exchange of `team` by key 1 on route `openai` with model `gpt-4o`.
    fn grant(cut: bool) -> OpenGrant {
        let model = Some("gpt-4o".into());
        OpenGrant { caller: "team".into(), route: Some("openai".into()), key: Some([1; 32]), cut, model }
    }

    fn is_cut_by(keys: &[[u8; 32]], caller: Caller) -> bool {
        let mut callers = Callers::default();
        callers.add(keys.iter().copied(), &Arc::new(caller));
        is_cut(&callers, &grant(false))
    }

    #[test]
    fn what_counts_as_withdrawn() {
        let routes = |name: &str| Some(vec![Arc::from(name)]);
        let models = |name: &str| Some(vec![name.to_owned()]);
        for cut in [true, false] {
            let key = [1; 32];
            assert!(!is_cut_by(&[key, [2; 32]], team(cut)), "nothing");
            assert!(!is_cut_by(
                &[key],
                Caller { rights: Rights { routes: routes("openai"), ..Rights::default() }, ..team(cut) }
            ));
            assert!(!is_cut_by(
                &[key],
                Caller { rights: Rights { models: models("gpt-4*"), ..Rights::default() }, ..team(cut) }
            ));
            assert_eq!(is_cut_by(&[[2; 32]], team(cut)), cut, "the key");
            assert_eq!(
                is_cut_by(
                    &[key],
                    Caller { rights: Rights { routes: routes("other"), ..Rights::default() }, ..team(cut) }
                ),
                cut,
                "the route"
            );
            assert_eq!(
                is_cut_by(
                    &[key],
                    Caller { rights: Rights { models: models("o3"), ..Rights::default() }, ..team(cut) }
                ),
                cut,
                "the model"
            );
            assert_eq!(is_cut(&Callers::default(), &grant(cut)), cut, "the client");
            let expires = |expires| Caller { expires: Some(expires), ..team(cut) };
            let now = SystemTime::now();
            assert_eq!(is_cut_by(&[key], expires(now)), cut, "the time");
            assert!(!is_cut_by(&[key], expires(now + Duration::from_secs(3600))), "not yet");
        }
    }

    #[test]
    fn a_key_that_another_client_has_now_is_withdrawn() {
        let mut callers = Callers::default();
        callers.add([[1; 32]], &Arc::new(Caller { name: "other".into(), ..team(false) }));
        callers.add([[2; 32]], &Arc::new(team(true)));
        assert!(is_cut(&callers, &grant(false)));
        // An ephemeral key was issued to the client, and belongs to none of its keys.
        assert!(!is_cut(&callers, &OpenGrant { key: None, ..grant(false) }));
    }
}
