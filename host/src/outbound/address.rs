//! Classification of IP addresses: public internet, or a special block.
//!
//! The tables are the IANA special-purpose registries for IPv4 and IPv6 plus multicast. They are stricter than the
//! registries in one respect: an anycast service inside a special block (`192.0.0.9`, `2001:1::1`) counts as special,
//! because no web server lives there.
//!
//! Not here: permissions (`policy`), addresses of a name (`connector`).
//!
//! Invariants: an address that carries an IPv4 address inside (mapped, NAT64) is judged by that one; every IPv6 address
//! outside `2000::/3` that is not such a carrier is special, listed or not.
//!
//! Limit: a NAT64 gateway under a prefix of its own, other than `64:ff9b::/96`, cannot be recognised from an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Destination of packets to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A host of the public internet.
    Public,
    /// A special block, by the registry's name for it.
    Special(&'static str),
}

/// Returns the destination of packets to `address`.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// Returns the effective address: the IPv4 address inside a mapped or NAT64 one, otherwise `address` itself.
pub(crate) fn inner(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => carried_v4(v6).map_or(address, IpAddr::V4),
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), prefix)
}

const SPECIAL_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    // Azure's wire server and resolver, in a block of the public internet. Other clouds' services lie in the blocks
    // around: 169.254.169.254, 169.254.170.2, 100.100.100.200, 192.0.0.192, fd00:ec2::254.
    (v4(168, 63, 129, 16, 32), "cloud platform"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignment"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 31, 196, 0, 24), "AS112"),
    (v4(192, 52, 193, 0, 24), "multicast tunnelling"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(192, 175, 48, 0, 24), "AS112"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// First match wins, so the narrower block stands first.
const SPECIAL_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6([0, 0, 0, 0], 96), "IPv4-compatible"),
    (v6([0x64, 0xff9b, 1, 0], 48), "local NAT64"),
    (v6([0x100, 0, 0, 0], 64), "discard"),
    (v6([0x100, 0, 0, 1], 64), "dummy prefix"),
    (v6([0x2001, 0, 0, 0], 32), "Teredo"),
    (v6([0x2001, 2, 0, 0], 48), "benchmarking"),
    (v6([0x2001, 0x10, 0, 0], 28), "ORCHID"),
    (v6([0x2001, 0x20, 0, 0], 28), "ORCHID"),
    (v6([0x2001, 0, 0, 0], 23), "protocol assignment"),
    (v6([0x2001, 0xdb8, 0, 0], 32), "documentation"),
    (v6([0x2002, 0, 0, 0], 16), "6to4"),
    (v6([0x2620, 0x4f, 0x8000, 0], 48), "AS112"),
    (v6([0x3fff, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0], 16), "segment routing"),
    (v6([0xfc00, 0, 0, 0], 7), "unique local"),
    (v6([0xfe80, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0], 8), "multicast"),
];

/// The only block that IANA hands out for hosts.
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// The well-known prefix of NAT64 (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

fn reach_v4(address: Ipv4Addr) -> Reach {
    SPECIAL_V4.iter().find(|(net, _)| net.contains(&address)).map_or(Reach::Public, |(_, name)| Reach::Special(name))
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if let Some(v4) = carried_v4(address) {
        return reach_v4(v4);
    }
    if let Some((_, name)) = SPECIAL_V6.iter().find(|(net, _)| net.contains(&address)) {
        return Reach::Special(name);
    }
    if GLOBAL_UNICAST_V6.contains(&address) { Reach::Public } else { Reach::Special("unallocated") }
}

/// The IPv4 address that a mapped or NAT64 address stands for. 6to4 and Teredo carry one as well, but both are retired:
/// they are special whatever is inside.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if NAT64.contains(&address) {
        let [.., a, b, c, d] = address.octets();
        return Some(Ipv4Addr::new(a, b, c, d));
    }
    address.to_ipv4_mapped()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(cases: &[(&str, &str)]) {
        for (address, expected) in cases {
            let got = match reach(address.parse().expect("the table holds addresses")) {
                Reach::Public => "public",
                Reach::Special(name) => name,
            };
            assert_eq!(got, *expected, "{address}");
        }
    }

    #[test]
    fn special_ipv4_blocks_are_named_at_both_ends() {
        check(&[
            ("0.0.0.0", "unspecified"),
            ("0.255.255.255", "unspecified"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("168.63.129.16", "cloud platform"),
            ("169.254.169.254", "link-local"),
            ("169.254.170.2", "link-local"),
            ("100.100.100.200", "carrier-grade NAT"),
            ("192.0.0.192", "protocol assignment"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.1", "protocol assignment"),
            ("192.0.0.9", "protocol assignment"),
            ("192.0.2.1", "documentation"),
            ("192.31.196.1", "AS112"),
            ("192.52.193.1", "multicast tunnelling"),
            ("192.88.99.1", "6to4 relay"),
            ("192.168.0.0", "private"),
            ("192.168.255.255", "private"),
            ("192.175.48.1", "AS112"),
            ("198.18.0.0", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.254", "reserved"),
            ("255.255.255.255", "broadcast"),
        ]);
    }

    #[test]
    fn the_neighbours_of_special_ipv4_blocks_are_public() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
        ] {
            check(&[(address, "public")]);
        }
    }

    #[test]
    fn special_ipv6_blocks_are_named() {
        check(&[
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::2", "IPv4-compatible"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("64:ff9b:1::1", "local NAT64"),
            ("100::1", "discard"),
            ("100:0:0:1::1", "dummy prefix"),
            ("2001::1", "Teredo"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
            ("2001:1::1", "protocol assignment"),
            ("2001:2::1", "benchmarking"),
            ("2001:10::1", "ORCHID"),
            ("2001:2f::1", "ORCHID"),
            ("2001:1ff:ffff::1", "protocol assignment"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("2002:808:808::1", "6to4"),
            ("2620:4f:8000::1", "AS112"),
            ("3fff::1", "documentation"),
            ("3fff:fff::1", "documentation"),
            ("4000::1", "unallocated"),
            ("5f00::1", "segment routing"),
            ("fc00::1", "unique local"),
            ("fdff::1", "unique local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ]);
    }

    #[test]
    fn a_carried_ipv4_address_decides() {
        check(&[
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.1.2.3", "private"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::ffff:8.8.8.8", "public"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b::a9fe:a9fe", "link-local"),
            ("64:ff9b::808:808", "public"),
        ]);
    }

    #[test]
    fn global_unicast_ipv6_is_public() {
        check(&[
            ("2001:200::1", "public"),
            ("2001:4860:4860::8888", "public"),
            ("2606:4700:4700::1111", "public"),
            ("2a00:1450:4001:82f::200e", "public"),
            ("3ffe::1", "public"),
        ]);
    }

    proptest! {
        #[test]
        fn carriers_are_judged_by_what_they_carry(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            for carrier in [v4.to_ipv6_mapped(), nat64] {
                prop_assert_eq!(reach(carrier.into()), reach(v4.into()));
                prop_assert_eq!(inner(carrier.into()), IpAddr::V4(v4));
            }
        }

        /// The standard library names some of the blocks on its own.
        #[test]
        fn what_the_standard_library_calls_special_is_special(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let is_special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_unspecified();
            prop_assert!(!is_special || reach(v4.into()) != Reach::Public);
        }
    }
}
