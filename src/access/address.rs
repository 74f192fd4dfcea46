//! The address that a request is counted under: that of the connection, or what trusted proxies report.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::Network;

/// A customer's network is a /64: one machine can have any address in it.
const IPV6_COUNTED_BITS: u32 = 64;

/// Whether `address` is one of our proxies.
pub(super) fn is_trusted(address: IpAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|network| network.contains(address.to_canonical()))
}

/// The address of the client: the last one in `X-Forwarded-For` that is not one of our proxies.
///
/// Each proxy appends the address of its client, so everything left of an untrusted address may be forged.
pub(super) fn client(peer: IpAddr, forwarded_for: &[&str], proxies: &[Network]) -> IpAddr {
    let hops = forwarded_for.iter().rev().flat_map(|value| value.rsplit(','));
    let mut client = peer.to_canonical();
    for hop in hops {
        if !is_trusted(client, proxies) {
            break;
        }
        // Nothing beyond an unreadable entry can be trusted.
        let Some(address) = parse(hop.trim()) else { break };
        client = address.to_canonical();
    }
    client
}

/// Reads an address. Some proxies append the port.
fn parse(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// One address for all those that one client can choose freely.
pub(super) fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (u128::BITS - IPV6_COUNTED_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies: Vec<Network> = ["10.0.0.0/8", "::1"].map(|network| network.parse().unwrap()).into();
        let check = |peer: &str, forwarded_for: &[&str], expected: &str| {
            let client = client(peer.parse().unwrap(), forwarded_for, &proxies);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded_for:?}");
        };
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.2.3.4"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9", "198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9, junk"], "10.0.0.1");
        check("10.0.0.1", &["junk, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["10.0.0.3"], "10.0.0.3");
        check("::1", &["198.51.100.7:4711"], "198.51.100.7");
        check("::1", &["[2001:db8::1]:4711"], "2001:db8::1");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let counted = |address: &str| counted_as(address.parse().unwrap());
        assert_eq!(counted("2001:db8:1:2:3::4"), counted("2001:db8:1:2:ffff::1"));
        assert_ne!(counted("2001:db8:1:2::"), counted("2001:db8:1:3::"));
        assert_ne!(counted("192.0.2.1"), counted("192.0.2.2"));
    }
}
