//! Private addresses, and names that must not lead to one.
//!
//! A stranger's list may redirect anywhere. A redirect into the Relying Party's own network would let the stranger trigger
//! requests that they could not make themselves.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::redirect::RedirectRefused;

/// Resolves names as the system does, and remembers which of them lead to private addresses.
#[derive(Clone, Default)]
pub(super) struct Resolver(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    is_private: HashMap<String, bool>,
    must_be_public: HashSet<String>,
}

impl Resolver {
    /// Whether the name led to a private address at the latest resolution.
    pub(super) fn is_private(&self, name: &str) -> bool {
        self.known().is_private.get(name).copied().unwrap_or(false)
    }

    /// From now on, resolves this name only to public addresses.
    pub(super) fn must_be_public(&self, name: &str) {
        self.known().must_be_public.insert(name.to_owned());
    }

    /// The usable addresses of the name.
    pub(super) fn resolved(&self, name: &str, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut known = self.known();
        let is_inside = addresses.iter().any(|address| is_private(address.ip()));
        known.is_private.insert(name.to_owned(), is_inside);
        let must_be_public = known.must_be_public.contains(name);
        addresses.iter().copied().filter(|address| !must_be_public || !is_private(address.ip())).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let all: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = names.resolved(name.as_str(), &all);
            if allowed.is_empty() && !all.is_empty() {
                let to = name.as_str().to_owned();
                return Err(Box::new(RedirectRefused::Private { to }) as Box<_>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether the address is of this machine or of a private network.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(embedded) => is_private_v4(embedded),
            None => is_private_v6(address),
        },
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        // This network, carrier-grade NAT, protocol assignments, benchmarks, reserved and broadcast.
        || first == 0
        || first == 100 && second & 0xC0 == 64
        || [first, second, third] == [192, 0, 0]
        || first == 198 && second & 0xFE == 18
        || first >= 240
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        // Site-local: the deprecated form of unique local addresses.
        || address.segments()[0] & 0xFFC0 == 0xFEC0
}

/// The IPv4 address in a mapped or translated one (RFC 4291, RFC 6052, RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xFFFF] | [0x64, 0xFF9B, 0, 0, 0, 0] => Some(of(g, h)),
        [0, 0, 0, 0, 0, 0] if g > 0 => Some(of(g, h)),
        [0x2002, ..] => Some(of(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_recognised_in_every_notation() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "192.0.0.8",
            "198.19.0.1",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fec0::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:a00:1::",
            "::127.0.0.1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in [
            "192.0.2.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_name_that_must_be_public_does_not_resolve_to_this_machine() {
        let names = Resolver::default();
        assert!(names.resolve("localhost".parse().unwrap()).await.is_ok());
        assert!(names.is_private("localhost"));
        names.must_be_public("localhost");
        let Err(why) = names.resolve("localhost".parse().unwrap()).await else { panic!("it was resolved") };
        assert!(why.downcast_ref::<RedirectRefused>().is_some(), "{why}");
    }
}
