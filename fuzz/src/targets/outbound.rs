//! Policy of outbound requests, against a second reader of URLs and a second list of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use bireme::fuzzing::outbound::{self, Permitted};
use ipnet::IpNet;

/// Blocks that no program on the public internet lives in, and addresses of clouds' services.
static SPECIAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    const BLOCKS: [&str; 34] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "192.88.99.0/24",
        "169.254.169.254/32",
        "169.254.170.2/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "::/96",
        "::1/128",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/32",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "fd00:ec2::254/128",
        "2001:20::/28",
    ];
    BLOCKS.iter().map(|block| block.parse().expect("the list holds blocks")).collect()
});

/// Returns whether an address may belong to a host of the public internet, in any spelling.
fn is_public(address: IpAddr) -> bool {
    let special = |address: IpAddr| SPECIAL.iter().any(|block| block.contains(&address));
    let IpAddr::V6(v6) = address else { return !special(address) };
    let [.., a, b, c, d] = v6.octets();
    let carried = IpAddr::from([a, b, c, d]);
    let segments = v6.segments();
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => !special(carried),
        _ => segments[0] & 0xe000 == 0x2000 && !special(address),
    }
}

/// Reads an IPv4 address as `inet_aton` of the C library does: one to four numbers, decimal, octal or hexadecimal.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, first) = parts.split_last().filter(|_| parts.len() <= 4)?;
    let number = |part: &str| -> Option<u64> {
        let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (&part[1..], 8),
            None => (part, 10),
        };
        let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        if is_number { u64::from_str_radix(digits, radix).ok() } else { None }
    };
    let mut value = 0_u64;
    for part in first {
        value = value << 8 | number(part).filter(|number| *number < 256)?;
    }
    let bits = 8 * (4 - first.len());
    let last = number(last).filter(|last| *last < 1 << bits)?;
    Some(Ipv4Addr::from((value << bits | last) as u32))
}

/// Lines of a URL, a declared origin, a grant and an address. What passes goes to a public address, or is granted.
pub(super) fn policy(input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (url, declared, grant, address) = (line(), line(), line(), line());
    let address: Option<IpAddr> = address.parse().ok();
    parsed(url);
    if let Some(address) = address {
        spellings(address);
    }
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| format!("no URI: {error}"))?;
    let any = outbound::permit(&["*".to_owned()], &[], &uri);
    if let Ok(permitted) = &any {
        assert!(!permitted.is_granted(), "nothing was granted");
        public(permitted, &uri, address);
    }
    let (declarations, grants) = ([declared.to_owned()], [grant.to_owned()]);
    let grants = if grant.is_empty() { &grants[..0] } else { &grants[..] };
    match outbound::permit(&declarations, grants, &uri) {
        Ok(permitted) if permitted.is_granted() => {
            let origin =
                grant.split_once('=').filter(|(name, _)| !name.contains("://")).map_or(grant, |(_, origin)| origin);
            let granted = outbound::origin(origin).expect("a grant is an origin");
            assert_eq!(granted, permitted.target(), "another origin is granted");
            let nowhere = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"];
            for address in nowhere.map(|text| text.parse().expect("an address")) {
                assert!(!permitted.takes(address), "a grant means {address}, which is no machine");
            }
            Ok(())
        }
        Ok(permitted) => {
            public(&permitted, &uri, address);
            Ok(())
        }
        Err(reason) => any.and(Err(reason)),
    }
}

/// An origin is the same when it was written and is read again.
fn parsed(url: &str) {
    if let Ok(target) = outbound::origin(url) {
        assert_eq!(outbound::origin(&target.origin).as_ref(), Ok(&target), "an origin that was read is another one");
        if let Err(name) = &target.host {
            assert_eq!(inet_aton(name), None, "`{name}` is an address to the C library");
            assert!(name.parse::<IpAddr>().is_err() && name.is_ascii() && !name.is_empty() && name.len() <= 253);
        }
    }
}

/// A permit without a grant leads to the public internet alone.
fn public(permitted: &Permitted, uri: &http::Uri, address: Option<IpAddr>) {
    let target = permitted.target();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    assert!(!authority.contains('@'), "`{authority}` names a user, and is permitted");
    // The text as it stands, by rules of others than the parser that the host uses.
    let host = uri.host().unwrap_or_default().trim_end_matches('.');
    let literal = inet_aton(host).map(IpAddr::V4);
    let literal = literal.or_else(|| host.trim_start_matches('[').trim_end_matches(']').parse().ok());
    if let Some(literal) = literal {
        assert!(is_public(literal), "`{authority}` is {literal}, and is permitted");
        assert_eq!(target.host.as_ref().map(IpAddr::to_canonical), Ok(literal.to_canonical()), "{authority}");
    }
    match &target.host {
        Ok(address) => assert!(is_public(*address), "{address} is permitted"),
        Err(name) => assert_eq!(inet_aton(name), None, "`{name}` is an address to the C library"),
    }
    assert_eq!(uri.port_u16().unwrap_or(target.port), target.port, "another port");
    for address in address.into_iter().chain(SPECIAL.iter().map(IpNet::addr)) {
        assert!(!permitted.takes(address) || is_public(address), "a name may resolve to {address}");
    }
}

/// A listener of the host is found in each spelling of its address.
fn spellings(address: IpAddr) {
    let listener = SocketAddr::new(address, 8080);
    assert!(outbound::is_own_listener(listener, listener), "the listener {listener} is not its own");
    if let IpAddr::V4(v4) = address {
        let [a, b, c, d] = v4.octets();
        let nat64 = Ipv6Addr::from([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]);
        for spelling in [v4.to_ipv6_mapped(), nat64] {
            assert!(outbound::is_own_listener(listener, SocketAddr::new(spelling.into(), 8080)), "{spelling} of {v4}");
        }
    }
    let other = SocketAddr::new(address, 8081);
    assert!(!outbound::is_own_listener(listener, other), "another port is its own");
}
