//! Grants of the operator: origins beyond the public internet, and models for stock components.
//!
//! Not here: declarations of functions (`declaration`), the join of both (`policy`).
//!
//! Invariant: a grant is one exact origin, never a wildcard, and never an address that stands for no single machine.

use super::address::{Reach, reach};
use super::origin::{Host, Origin};
use super::policy_error::{PolicyError, check_len, check_name};

/// Parsed values of the `--grant` flag.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    named: Vec<(Box<str>, Origin)>,
    literal: Vec<Origin>,
    models: Vec<String>,
}

impl Grants {
    /// Parses `name=ORIGIN` (for `$name`; may be repeated), plain `ORIGIN` and `model:NAME` values.
    pub(crate) fn parse(values: &[String]) -> Result<Self, PolicyError> {
        check_len(values)?;
        let mut grants = Self::default();
        for value in values {
            if let Some(model) = value.strip_prefix("model:") {
                if model.is_empty() || model.len() > 256 || model.contains(char::is_whitespace) {
                    return Err(PolicyError::GrantModel { grant: value.clone() });
                }
                grants.models.push(model.to_owned());
                continue;
            }
            match value.split_once('=') {
                // The `=` of a query belongs to a malformed origin, which has its own message.
                Some((name, origin)) if !name.contains("://") => {
                    let name = check_name(name.strip_prefix('$').unwrap_or(name))?;
                    grants.named.push((name, parse_grant(value, origin)?));
                }
                _ => grants.literal.push(parse_grant(value, value)?),
            }
        }
        Ok(grants)
    }

    /// Returns these grants and those of `values`.
    pub(crate) fn with(&self, values: &[String]) -> Result<Self, PolicyError> {
        let mut all = self.clone();
        let more = Self::parse(values)?;
        all.named.extend(more.named);
        all.literal.extend(more.literal);
        all.models.extend(more.models);
        Ok(all)
    }

    /// Returns the models for stock components, which cannot declare any. Others declare their own.
    pub(crate) fn models(&self) -> &[String] {
        &self.models
    }

    /// Whether `origin` may have private addresses.
    pub(super) fn holds(&self, origin: &Origin) -> bool {
        self.literal.contains(origin)
    }

    /// Returns the origins that `$name` stands for.
    pub(super) fn origins_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Origin> {
        self.named.iter().filter(move |(granted, _)| **granted == *name).map(|(_, origin)| origin)
    }
}

fn parse_grant(grant: &str, origin: &str) -> Result<Origin, PolicyError> {
    let origin = Origin::parse(origin).map_err(|source| PolicyError::Grant { grant: grant.into(), source })?;
    match origin.host() {
        Host::Address(address) => match reach(*address) {
            Reach::Special(network) if is_nowhere(network) => {
                Err(PolicyError::GrantAddress { grant: grant.into(), network })
            }
            _ => Ok(origin),
        },
        Host::Name(_) => Ok(origin),
    }
}

/// Whether addresses of this block stand for no single machine, so that no grant can mean them.
pub(super) fn is_nowhere(network: &str) -> bool {
    matches!(network, "unspecified" | "multicast" | "broadcast")
}
