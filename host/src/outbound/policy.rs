//! Policy of one function: the origins to which it may send requests.
//!
//! A function declares, the operator grants, and an origin needs both. Declared public names are granted by default;
//! private addresses and origins behind a `$name` never are.
//!
//! | declared | means | private addresses |
//! |---|---|---|
//! | `https://api.example.com`, `http://host:port` | exactly that origin | with `--grant ORIGIN` |
//! | `https://*.example.com` | one or more labels before `.example.com` | with `--grant ORIGIN`, one origin at a time |
//! | `*` | any public origin | never |
//! | `$site` | the origins of `--grant site=ORIGIN` | yes |
//!
//! Not here: the addresses behind a name (`connector` checks each one against the permit), the host's own listeners
//! (`listeners`).
//!
//! Invariants: a policy never changes; without a permit nothing is resolved or connected to; hosts match label by
//! label.
//!
//! Limits: 256 declared entries a function, 256 grants.

use std::fmt;
use std::net::IpAddr;

use super::address::{Reach, reach};
use super::declaration::DeclaredOrigin;
use super::error::OutboundError;
use super::grants::{Grants, is_nowhere};
use super::origin::{Host, Origin};
use super::policy_error::{PolicyError, check_len};

/// Block of this machine's own addresses, for messages.
const LOCAL: &str = "local";

/// Origins within one function's reach, computed once from its declaration and the operator's grants.
#[derive(Clone, Debug)]
pub struct Policy {
    entries: Vec<DeclaredOrigin>,
    grants: Grants,
    declared: Vec<String>,
    /// Place of the declaration, for messages.
    place: &'static str,
}

/// Permission to reach one origin. Only a policy makes one.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    origin: Origin,
    scope: Scope,
}

/// The addresses that a permitted origin may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Public ones; a literal grant would widen the permit, if the function names the origin.
    Public {
        /// Whether the function names the origin, rather than declaring `*`.
        named: bool,
    },
    /// Those of a single machine, private or not.
    Granted,
}

impl Policy {
    /// Joins a function's declared entries, from `place`, with the operator's grants.
    pub(crate) fn new(declared: &[String], grants: &Grants, place: &'static str) -> Result<Self, PolicyError> {
        check_len(declared)?;
        Ok(Self {
            entries: declared.iter().map(|text| DeclaredOrigin::parse(text)).collect::<Result<_, _>>()?,
            grants: grants.clone(),
            declared: declared.to_vec(),
            place,
        })
    }

    /// Returns the declared `$names` without a granted origin.
    pub(crate) fn ungranted(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match entry {
            DeclaredOrigin::Named(name) => self.grants.origins_of(name).next().is_none().then_some(&**name),
            _ => None,
        })
    }

    /// Returns the permit for a request to `uri`, or the reason of its refusal.
    pub(crate) fn check(&self, uri: &http::Uri) -> Result<Permit, OutboundError> {
        let origin = Origin::of_uri(uri).map_err(|source| OutboundError::Url { source })?;
        let scope = self.scope(&origin)?;
        let permit = Permit { origin, scope };
        if let Host::Address(address) = permit.origin.host() {
            permit.check_address(*address)?;
        }
        Ok(permit)
    }

    fn scope(&self, origin: &Origin) -> Result<Scope, OutboundError> {
        let mut is_any_public = false;
        let mut is_named = false;
        let mut ungranted = None;
        for entry in &self.entries {
            match entry {
                DeclaredOrigin::AnyPublic => is_any_public = true,
                DeclaredOrigin::Named(name) => {
                    let mut origins = self.grants.origins_of(name).peekable();
                    if origins.peek().is_none() {
                        ungranted = ungranted.or(Some(name));
                    }
                    if origins.any(|granted| granted == origin) {
                        return Ok(Scope::Granted);
                    }
                }
                _ => is_named |= entry.names(origin),
            }
        }
        if is_named && self.grants.holds(origin) {
            return Ok(Scope::Granted);
        }
        if is_named || is_any_public {
            return Ok(Scope::Public { named: is_named });
        }
        Err(match ungranted {
            Some(name) => OutboundError::NotGranted { origin: origin.clone(), grant: format!("{name}={origin}") },
            None => {
                let (origin, declared, place) = (origin.clone(), self.described(), self.place);
                OutboundError::NotDeclared { origin, declared, place }
            }
        })
    }

    /// Returns the declared entries, each `$name` with its granted origins.
    fn described(&self) -> Vec<String> {
        let described = |(text, entry): (&String, &DeclaredOrigin)| match entry {
            DeclaredOrigin::Named(name) => {
                let origins: Vec<_> = self.grants.origins_of(name).map(Origin::to_string).collect();
                format!("{text} = {}", origins.join(" or "))
            }
            _ => text.clone(),
        };
        self.declared.iter().zip(&self.entries).map(described).collect()
    }
}

impl Permit {
    /// Returns the permitted origin.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the kind of addresses that the origin may have.
    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Refuses an `address` that the origin must not have. The connector checks every address of a name.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), OutboundError> {
        match reach(address) {
            Reach::Special(network) => self.check_network(address, network),
            Reach::Public => Ok(()),
        }
    }

    /// Refuses a public `address` of this machine without a grant: what listens there may be behind a firewall.
    pub(crate) fn check_local(&self, address: IpAddr) -> Result<(), OutboundError> {
        self.check_network(address, LOCAL)
    }

    fn check_network(&self, address: IpAddr, network: &'static str) -> Result<(), OutboundError> {
        let grant = match self.scope {
            Scope::Granted if !is_nowhere(network) => return Ok(()),
            Scope::Public { named: true } if !is_nowhere(network) => Some(self.origin.to_string()),
            _ => None,
        };
        Err(OutboundError::NotPublic { origin: self.origin.clone(), address, network, grant })
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy_error::ENTRIES_MAX;
    use super::*;

    const PLACE: &str = "the function's attributes";

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }

    fn policy(declared: &[&str], grants: &[&str]) -> Policy {
        let grants = Grants::parse(&strings(grants)).expect("good grants");
        Policy::new(&strings(declared), &grants, PLACE).expect("good entries")
    }

    /// The verdict on `uri` in one word.
    fn verdict(policy: &Policy, uri: &str) -> &'static str {
        match policy.check(&uri.parse().expect("a URI")) {
            Ok(permit) => match permit.scope() {
                Scope::Granted => "granted",
                Scope::Public { .. } => "public",
            },
            Err(OutboundError::NotDeclared { .. }) => "not declared",
            Err(OutboundError::NotGranted { .. }) => "not granted",
            Err(OutboundError::NotPublic { .. }) => "not public",
            Err(OutboundError::Url { .. }) => "url",
            Err(other) => panic!("{other}"),
        }
    }

    fn check(declared: &[&str], grants: &[&str], cases: &[(&str, &str)]) {
        let policy = policy(declared, grants);
        for (uri, expected) in cases {
            assert_eq!(verdict(&policy, uri), *expected, "{declared:?} {grants:?} {uri}");
        }
    }

    #[test]
    fn nothing_is_reachable_that_is_not_declared() {
        check(
            &[],
            &["https://example.com", "site=http://127.0.0.1:8000"],
            &[("https://example.com", "not declared"), ("http://127.0.0.1:8000", "not declared")],
        );
    }

    #[test]
    fn an_exact_entry_matches_scheme_host_and_port() {
        check(
            &["https://api.example.com", "http://plain.example:8080"],
            &[],
            &[
                ("https://api.example.com/x?y", "public"),
                ("https://API.EXAMPLE.COM.:443/", "public"),
                ("http://api.example.com/", "not declared"),
                ("https://api.example.com:8443/", "not declared"),
                ("https://www.api.example.com/", "not declared"),
                ("https://api.example.com.evil.net/", "not declared"),
                ("https://evilapi.example.com/", "not declared"),
                ("http://plain.example:8080/", "public"),
                ("http://plain.example/", "not declared"),
                ("https://api.example.com@evil.net/", "url"),
                ("https://evil.net@api.example.com/", "url"),
            ],
        );
    }

    #[test]
    fn a_wildcard_takes_whole_labels_and_at_least_one() {
        check(
            &["https://*.example.com"],
            &[],
            &[
                ("https://a.example.com/", "public"),
                ("https://a.b.example.com/", "public"),
                ("https://example.com/", "not declared"),
                ("https://evilexample.com/", "not declared"),
                ("https://a.example.com.evil.net/", "not declared"),
                ("http://a.example.com/", "not declared"),
                ("https://a.example.com:444/", "not declared"),
                ("https://xn--exmple-cua.com/", "not declared"),
            ],
        );
    }

    #[test]
    fn the_star_opens_the_public_internet_only() {
        check(
            &["*"],
            &["http://127.0.0.1:8000"],
            &[
                ("https://example.com/", "public"),
                ("http://8.8.8.8:53/", "public"),
                ("http://127.0.0.1:8000/", "not public"),
                ("http://2130706433/", "not public"),
                ("http://0x7f.1/", "not public"),
                ("http://0177.0.0.1/", "not public"),
                ("http://127.1/", "not public"),
                ("http://169.254.169.254/latest/meta-data/", "not public"),
                ("http://[::1]/", "not public"),
                ("http://[::ffff:10.0.0.1]/", "not public"),
                ("http://[64:ff9b::7f00:1]/", "not public"),
                ("http://[2002:7f00:1::]/", "not public"),
                ("http://[fd00::1]/", "not public"),
                ("http://0.0.0.0/", "not public"),
                ("ftp://example.com/", "url"),
            ],
        );
    }

    #[test]
    fn a_private_literal_needs_its_own_grant() {
        let declared = &["http://10.0.0.5:5000", "http://10.0.0.6:5000"];
        check(
            declared,
            &["http://10.0.0.5:5000"],
            &[
                ("http://10.0.0.5:5000/", "granted"),
                ("http://10.0.0.6:5000/", "not public"),
                ("http://10.0.0.5:5001/", "not declared"),
            ],
        );
    }

    #[test]
    fn a_name_stands_for_what_the_operator_says() {
        check(&["$site"], &[], &[("http://127.0.0.1:8000/", "not granted")]);
        check(
            &["$site"],
            &["site=http://127.0.0.1:8000", "site=https://example.com"],
            &[
                ("http://127.0.0.1:8000/", "granted"),
                ("https://example.com/", "granted"),
                ("http://127.0.0.1:8001/", "not declared"),
            ],
        );
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = |declared: &[&str], grants: &[&str], uri: &str| {
            let refused = policy(declared, grants).check(&uri.parse().expect("a URI"));
            refused.expect_err("refused").to_string()
        };
        assert_eq!(
            error(&["$site"], &[], "http://127.0.0.1:8000/a"),
            "`http://127.0.0.1:8000` is declared but not granted; \
             grant it with `--grant site=http://127.0.0.1:8000` on `bireme deploy`, `serve` or `run`"
        );
        assert_eq!(
            error(&["$site", "https://a.example"], &["site=http://b.example"], "http://c.example/"),
            "`http://c.example` is not declared: the function declares `$site = http://b.example`, \
             `https://a.example`; add it to `outbound` in the function's attributes"
        );
        assert_eq!(
            error(&["http://10.0.0.5"], &[], "http://10.0.0.5/"),
            "`http://10.0.0.5` leads to a private address, which is not public; \
             grant it with `--grant http://10.0.0.5` on `bireme deploy`, `serve` or `run`"
        );
        assert_eq!(
            error(&[], &[], "https://a.example"),
            "`https://a.example` is not declared: the function declares no outbound origin; \
             add it to `outbound` in the function's attributes"
        );
    }

    #[test]
    fn malformed_entries_and_grants_are_refused_at_once() {
        for entry in [
            "example.com",
            "https://*",
            "https://a.*.com",
            "https://*.*.com",
            "https://*.1.2.3.4",
            "*.example.com",
            "https://example.com/path",
            "$",
            "$a b",
        ] {
            let refused = Policy::new(&strings(&[entry]), &Grants::default(), PLACE);
            assert!(refused.is_err(), "{entry}");
        }
        for grant in [
            "127.0.0.1:8000",
            "site=",
            "=http://a",
            "site=http://0.0.0.0:8000",
            "http://[::]:80",
            "http://224.0.0.1",
            "site=*",
            "http://a/?b=c",
        ] {
            assert!(Grants::parse(&strings(&[grant])).is_err(), "{grant}");
        }
        let long = vec!["*".to_owned(); ENTRIES_MAX + 1];
        assert!(matches!(Policy::new(&long, &Grants::default(), PLACE), Err(PolicyError::TooMany { .. })));
    }
}
