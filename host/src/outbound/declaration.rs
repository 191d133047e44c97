//! One entry of a function's `outbound` declaration.
//!
//! Not here: grants of the entry (`policy`).
//!
//! Invariant: hosts match label by label, so `https://*.example.com` means neither `https://example.com` nor
//! `https://evilexample.com`.

use super::origin::{Host, Origin, Scheme};
use super::policy_error::{PolicyError, check_name};

/// One declared entry.
#[derive(Clone, Debug)]
pub(super) enum DeclaredOrigin {
    Exact(Origin),
    Below { scheme: Scheme, suffix: Box<str>, port: u16 },
    AnyPublic,
    Named(Box<str>),
}

impl DeclaredOrigin {
    /// Parses one declared entry.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::AnyPublic);
        }
        if let Some(name) = text.strip_prefix('$') {
            return Ok(Self::Named(check_name(name)?));
        }
        let parse =
            |text: &str| Origin::parse(text).map_err(|source| PolicyError::Declared { entry: text.into(), source });
        if !text.contains('*') {
            return parse(text).map(Self::Exact);
        }
        let wildcard = || PolicyError::Wildcard { entry: text.into() };
        let (scheme, rest) = text.split_once("://*.").ok_or_else(wildcard)?;
        if rest.contains('*') {
            return Err(wildcard());
        }
        let below = parse(&format!("{scheme}://{rest}"))?;
        match below.host() {
            Host::Name(suffix) => {
                Ok(Self::Below { scheme: below.scheme(), suffix: suffix.clone(), port: below.port() })
            }
            Host::Address(_) => Err(wildcard()),
        }
    }

    /// Whether the entry names `origin`. `*` names no origin: it only opens the public ones.
    pub(super) fn names(&self, origin: &Origin) -> bool {
        match (self, origin.host()) {
            (Self::Exact(exact), _) => exact == origin,
            (Self::Below { scheme, suffix, port }, Host::Name(name)) => {
                *scheme == origin.scheme()
                    && *port == origin.port()
                    && name
                        .strip_suffix(&**suffix)
                        .and_then(|labels| labels.strip_suffix('.'))
                        .is_some_and(|labels| !labels.is_empty())
            }
            _ => false,
        }
    }
}
