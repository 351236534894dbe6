//! What tells callers without a key from each other: where they are in the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The well-known prefix of IPv6 addresses that contain an IPv4 address (RFC 6052, section 2.1), `64:ff9b::/96`.
const TRANSLATED: u128 = 0x0064_ff9b << 96;

/// The part of an address that a caller cannot choose. An IPv4 address is that as a whole, also one that is written as IPv6. Of an IPv6
/// address it is the first 64 bits: the rest is chosen by the caller, who has all 2^64 of them (RFC 4291, section 2.5.1; RFC 8981 changes
/// them daily).
pub fn network_of(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address.to_canonical() else { return address.to_canonical() };
    let bits = address.to_bits();
    if bits >> 32 == TRANSLATED >> 32 {
        // The last 32 bits are the address.
        return Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32).into();
    }
    Ipv6Addr::from_bits(bits & !u128::from(u64::MAX)).into()
}

/// The bytes of [`network_of`] an address: the same for all addresses that one caller has, and others for other callers.
pub fn identity_of(address: IpAddr) -> [u8; 16] {
    match network_of(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        identity_of(one.parse().unwrap()) == identity_of(other.parse().unwrap())
    }

    #[test]
    fn a_caller_is_one_with_all_addresses_that_it_can_choose() {
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        for mapped in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1"] {
            assert!(same("192.0.2.1", mapped) && !same("192.0.2.2", mapped), "{mapped}");
        }
        // Another prefix of the same beginning (RFC 8215) contains no address in a known place.
        assert!(same("64:ff9b:1::192.0.2.1", "64:ff9b:1::192.0.2.2"));
        assert!(!same("::", "0.0.0.0"));
    }

    #[test]
    fn an_identity_is_written_like_an_address() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
