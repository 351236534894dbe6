//! Address ranges: `10.0.0.0/8`, `::1`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::schema::Network;

/// Length of the prefix of IPv6 addresses that contain an IPv4 address (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

impl Network {
    /// Whether the address is in the range. `::ffff:a.b.c.d` counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(self.address, self.prefix) == masked(address.to_canonical(), self.prefix)
    }
}

/// Error: a text is not an address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or an address range")]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    /// Bits after the prefix must be zero: `10.1.2.3/8` is probably a mistake. `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| InvalidNetwork)?;
        if prefix > longest || masked(address, prefix) != address {
            return Err(InvalidNetwork);
        }
        Ok(match (address.to_canonical(), prefix.checked_sub(MAPPED)) {
            (address @ IpAddr::V4(_), Some(prefix)) if longest > 32 => Self { address, prefix },
            _ => Self { address, prefix },
        })
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_what_shares_its_prefix() {
        let within = |range: &str, address: &str| {
            range.parse::<Network>().expect(range).contains(address.parse().expect(address))
        };
        assert!(within("10.0.0.0/8", "10.255.1.2"));
        assert!(!within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("0.0.0.0/0", "203.0.113.9"));
        assert!(!within("0.0.0.0/0", "2001:db8::1"));
        assert!(within("::1", "::1"));
        assert!(within("2001:db8::/32", "2001:db8:1::9"));
        assert!(!within("2001:db8::/32", "2001:db9::1"));
        assert!(within("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(within("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(within("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"));
        assert!(!within("::ffff:10.0.0.0/104", "11.0.0.1"));
        assert!(within("::ffff:0:0/96", "203.0.113.9"));
        assert!(within("::/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.1.2.3/8", "::1/129", "localhost", "10.0.0.0/", "10.0.0/8"] {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }
}
