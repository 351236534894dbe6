//! Addresses that cannot be listened on, all of one start.

use std::{fmt, net::SocketAddr};

use crate::listen::BindError;

/// The addresses that cannot be listened on; at least one.
#[derive(Debug)]
pub struct Unbound(Vec<Unlistened>);

/// One address.
#[derive(Debug)]
pub struct Unlistened {
    /// The key of the configuration that has the address, for example `listener[0].address`.
    pub key: String,
    /// Why it cannot be listened on.
    pub error: BindError,
}

impl Unbound {
    /// What was opened, unless something could not be.
    pub(super) fn unless(failed: Vec<Unlistened>) -> Result<(), Self> {
        if failed.is_empty() { Ok(()) } else { Err(Self(failed)) }
    }

    /// The addresses that another process listens on.
    pub fn taken(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let taken = self.0.iter().filter(|one| matches!(one.error, BindError::InUse { .. }));
        taken.map(|one| one.error.address())
    }

    /// All addresses with their reasons, each under the name that `named` gives it.
    pub fn describe(&self, named: impl Fn(&Unlistened) -> String) -> String {
        let mut reasons: Vec<String> = Vec::new();
        let mut groups: Vec<Vec<String>> = Vec::new();
        for one in &self.0 {
            let (reason, place) = (one.error.reason(), format!("{} ({})", one.error.address(), named(one)));
            match reasons.iter().position(|known| *known == reason).and_then(|at| groups.get_mut(at)) {
                Some(group) => group.push(place),
                None => {
                    reasons.push(reason);
                    groups.push(vec![place]);
                }
            }
        }
        let said =
            groups.iter().zip(&reasons).map(|(group, reason)| format!("{}: {reason}", group.join(" and ")));
        format!("cannot listen on {}", said.collect::<Vec<_>>().join("; nor on "))
    }
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(|one| one.key.clone()))?;
        if self.taken().next().is_some() {
            f.write_str("; configure another address, or stop the program that listens there")?;
        }
        Ok(())
    }
}

/// The reasons are in its own text.
impl std::error::Error for Unbound {}
