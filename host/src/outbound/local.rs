//! Addresses of this machine: public or not, what listens on them may trust whoever connects from here.
//!
//! Looked up for each connection, since a machine gets and loses addresses while it runs.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;

use rustix::io::Errno;

/// The addresses of this machine.
#[derive(Clone)]
pub(super) struct LocalAddresses(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl LocalAddresses {
    /// Whether a packet to `ip` stays on this machine.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || (self.0)(ip)
    }

    /// Other addresses, for tests.
    #[cfg(test)]
    pub(super) fn of(addresses: Arc<parking_lot::Mutex<Vec<IpAddr>>>) -> Self {
        Self(Arc::new(move |ip| addresses.lock().contains(&ip)))
    }
}

impl Default for LocalAddresses {
    fn default() -> Self {
        Self(Arc::new(is_local))
    }
}

impl fmt::Debug for LocalAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalAddresses")
    }
}

/// Only an address of this machine can be bound to, and binding a datagram socket sends nothing. The routes decide, so
/// blocks that are routed to this machine count as well as the addresses of interfaces.
fn is_local(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => !binds_anything(ip) || is_of_interface(ip),
        // Out of sockets: not known, so not public.
        Err(error) => {
            let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
            short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        }
    }
}

/// Whether addresses of other machines can be bound to (`net.ipv4.ip_nonlocal_bind`), as load balancers need it: shown
/// by one of a block for documentation, which is nobody's.
fn binds_anything(ip: IpAddr) -> bool {
    let nobodys = if ip.is_ipv4() { "192.0.2.77" } else { "2001:db8::77" };
    nobodys.parse::<IpAddr>().is_ok_and(|nobodys| UdpSocket::bind((nobodys, 0)).is_ok())
}

/// Whether the kernel's tables have `ip` as this machine's. They are read from `/proc`: a confined host has no socket
/// to ask the kernel through.
fn is_of_interface(ip: IpAddr) -> bool {
    let listed = match ip {
        IpAddr::V4(ip) => fs::read_to_string("/proc/self/net/fib_trie").map(|table| is_in_trie(&table, ip)),
        IpAddr::V6(ip) => fs::read_to_string("/proc/self/net/if_inet6").map(|table| is_in_list(&table, ip)),
    };
    // Without the table nothing is known, so nothing is public.
    listed.unwrap_or(true)
}

/// Looks for a leaf of the address with a row `/32 host LOCAL`.
fn is_in_trie(table: &str, ip: Ipv4Addr) -> bool {
    let mut is_at_leaf = false;
    table.lines().any(|line| {
        match line.trim().split_once("|-- ") {
            Some((_, leaf)) => is_at_leaf = leaf.parse() == Ok(ip),
            None if line.contains("+-- ") => is_at_leaf = false,
            None => {}
        }
        is_at_leaf && line.ends_with("host LOCAL")
    })
}

/// Looks for a line that begins with the address, 32 digits long.
fn is_in_list(table: &str, ip: Ipv6Addr) -> bool {
    let digits = format!("{:032x}", ip.to_bits());
    table.lines().any(|line| line.split(' ').next() == Some(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_local() {
        let local = LocalAddresses::default();
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("0.0.0.0", true),
            ("::1", true),
            ("::", true),
            ("192.0.2.1", false),
            ("8.8.8.8", false),
            ("2001:db8::1", false),
            ("2606:4700:4700::1111", false),
        ] {
            assert_eq!(local.contains(ip.parse().unwrap()), expected, "{ip}");
        }
        for interface in if_addrs::get_if_addrs().unwrap() {
            // A link-local address needs its interface's number to be bound to, and is not public anyway.
            let is_link_local = matches!(interface.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local());
            assert!(is_link_local || local.contains(interface.ip()), "{interface:?}");
            assert!(is_of_interface(interface.ip()));
        }
        for foreign in ["8.8.8.8", "192.0.2.1", "2001:db8::1"] {
            assert!(!is_of_interface(foreign.parse().unwrap()), "{foreign}");
        }
    }

    #[test]
    fn a_table_of_routes_has_the_addresses_of_this_machine_among_others() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.0.0\n        \
                     /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        let is_local = |ip: &str| is_in_trie(table, ip.parse().unwrap());
        assert!(is_local("10.0.0.5"));
        assert!(!["0.0.0.0", "10.0.0.0", "10.0.0.255", "10.0.0.50"].iter().any(|ip| is_local(ip)));
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert!(is_in_list(list, Ipv6Addr::LOCALHOST) && !is_in_list(list, Ipv6Addr::UNSPECIFIED));
    }
}
