//! Retries: `retries = 2` and `retries(max = 2, …)`.

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Meta, Token};

use super::values::{number, unit, whole_number};
use super::{list, meant};
use crate::units;

pub(super) const KNOWN: [&str; 4] = ["max", "backoff", "initial", "max_delay"];
const EXAMPLE: &str = "retries(max = 3, backoff = 2.0, initial = \"1s\", max_delay = \"60s\")";
const MAX_MAX: u32 = 100;
const BACKOFF_MIN: f64 = 1.0;
const BACKOFF_MAX: f64 = 10.0;

/// Retries of a failed call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Retries {
    /// Number of further attempts, with the host's delays.
    Count(u32),
    /// Retries with their own delays; an absent one is the host's default.
    Spaced { max: u32, backoff: Option<f64>, initial_ms: Option<u64>, max_delay_ms: Option<u64> },
}

impl Retries {
    /// Parses either form.
    pub(crate) fn read(meta: &Meta) -> syn::Result<Self> {
        let Meta::List(arguments) = meta else {
            return whole_number(meta, "2", 0, MAX_MAX).map(Self::Count);
        };
        let (mut max, mut backoff, mut initial_ms, mut max_delay_ms) = (None, None, None, None);
        let mut seen = Vec::new();
        for meta in arguments.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
            let name = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
            match name.as_str() {
                name if seen.iter().any(|known| known == name) => {
                    return Err(Error::new(meta.path().span(), format!("`{name}` is given twice; keep one")));
                }
                "max" => max = Some(whole_number(&meta, "3", 0, MAX_MAX)?),
                "backoff" => backoff = Some(number(&meta, "2.0", BACKOFF_MIN, BACKOFF_MAX)?),
                "initial" => initial_ms = Some(unit(&meta, "\"1s\"", units::retry_delay_ms)?),
                "max_delay" => max_delay_ms = Some(unit(&meta, "\"60s\"", units::retry_delay_ms)?),
                unknown => {
                    let message = format!(
                        "unknown part `{unknown}` of `retries`; {}there are {}",
                        meant(unknown, &KNOWN),
                        list(&KNOWN)
                    );
                    return Err(Error::new(meta.path().span(), message));
                }
            }
            seen.push(name);
        }
        let Some(max) = max else {
            return Err(Error::new(arguments.span(), format!("`retries` needs `max`: `{EXAMPLE}`")));
        };
        if let (Some(initial), Some(longest)) = (initial_ms, max_delay_ms)
            && initial > longest
        {
            return Err(Error::new(arguments.span(), "`initial` is longer than `max_delay`"));
        }
        Ok(Self::Spaced { max, backoff, initial_ms, max_delay_ms })
    }
}
