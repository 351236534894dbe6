//! A memory of the names that the header policy has let through.

use http::HeaderName;

/// How many names are remembered. Responses of providers have about 20 headers.
const MOST: usize = 40;

/// How many remembered names are passed over for one that is absent this time.
const MOST_ABSENT: usize = 4;

/// The names of a head that the policy has let through, in their order; at most [`MOST`]. The heads of one upstream's responses nearly always have
/// the same names in the same order, and whether a name passes follows from the rules and the keys alone. Values are searched in any case.
#[derive(Debug, Default)]
pub struct PassedNames(Vec<HeaderName>);

/// The reading of one head.
pub(super) struct Recalled<'n> {
    names: &'n mut PassedNames,
    /// Number of names that have been compared.
    at: usize,
}

impl PassedNames {
    /// Begins to read a head.
    pub(super) fn recall(&mut self) -> Recalled<'_> {
        Recalled { names: self, at: 0 }
    }
}

impl Recalled<'_> {
    /// Whether the next name of the head passes; `passes` decides about one that is not remembered.
    pub(super) fn passes(&mut self, name: &HeaderName, passes: impl FnOnce() -> bool) -> bool {
        let names = &mut self.names.0;
        let rest = names.get(self.at..).unwrap_or_default();
        if let Some(absent) = rest.iter().take(MOST_ABSENT).position(|known| known == name) {
            self.at += absent + 1;
            return true;
        }
        if !passes() {
            return false;
        }
        names.truncate(MOST - 1);
        // Where it stands now. What was remembered behind it may still follow.
        names.insert(self.at.min(names.len()), name.clone());
        self.at += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(names: &mut PassedNames, head: &[&'static str]) -> Vec<&'static str> {
        let mut asked = Vec::new();
        let mut recalled = names.recall();
        for name in head {
            let header = HeaderName::from_static(name);
            let passes = recalled.passes(&header, || {
                asked.push(*name);
                *name != "never"
            });
            assert_eq!(passes, *name != "never", "{name}");
        }
        asked
    }

    #[test]
    fn only_what_is_new_or_does_not_pass_is_decided() {
        let mut names = PassedNames::default();
        assert_eq!(asked(&mut names, &["a", "never", "b", "c"]), ["a", "never", "b", "c"]);
        assert_eq!(asked(&mut names, &["a", "never", "b", "c"]), ["never"]);
        assert_eq!(asked(&mut names, &["a", "c"]), [""; 0], "one is absent");
        assert_eq!(asked(&mut names, &["a", "b", "new", "c"]), ["new"]);
        assert_eq!(asked(&mut names, &["a", "b", "new", "c", "never"]), ["never"]);
        assert_eq!(asked(&mut names, &["c", "b", "a"]), ["b", "a"], "in another order");
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut names = PassedNames::default();
        for round in 0..50 {
            let mut recalled = names.recall();
            for at in 0..100 {
                let name = HeaderName::try_from(format!("x-{round}-{at}")).unwrap();
                assert!(recalled.passes(&name, || true));
            }
        }
        assert!(names.0.len() <= MOST);
    }
}
