//! `batched(max_size = 64, wait = "10ms")`.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Meta, Token};

use super::values::{unit, whole_number};
use super::{list, meant};
use crate::units;

pub(super) const KNOWN: [&str; 2] = ["max_size", "wait"];
const EXAMPLE: &str = "batched(max_size = 64, wait = \"10ms\")";
const SIZE_MAX: u32 = 1_000;

/// Groups of single inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batched {
    /// Inputs of one group.
    pub max_size: u32,
    /// Longest wait of a group's first input for others, in milliseconds.
    pub wait_ms: u64,
    /// Span of the attribute, for errors about conflicting attributes.
    pub span: Span,
}

impl Batched {
    /// Parses both parts; neither has a default.
    pub(crate) fn read(meta: &Meta) -> syn::Result<Self> {
        let Meta::List(arguments) = meta else {
            return Err(Error::new(meta.span(), format!("`batched` needs `max_size` and `wait`: `{EXAMPLE}`")));
        };
        let (mut max_size, mut wait_ms) = (None, None);
        for meta in arguments.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
            let name = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
            match name.as_str() {
                "max_size" if max_size.is_none() => max_size = Some(whole_number(&meta, "64", 1, SIZE_MAX)?),
                "wait" if wait_ms.is_none() => wait_ms = Some(unit(&meta, "\"10ms\"", units::batch_wait_ms)?),
                name if KNOWN.contains(&name) => {
                    return Err(Error::new(meta.path().span(), format!("`{name}` is given twice; keep one")));
                }
                unknown => {
                    let message = format!(
                        "unknown part `{unknown}` of `batched`; {}there are {}",
                        meant(unknown, &KNOWN),
                        list(&KNOWN)
                    );
                    return Err(Error::new(meta.path().span(), message));
                }
            }
        }
        match (max_size, wait_ms) {
            (Some(max_size), Some(wait_ms)) => Ok(Self { max_size, wait_ms, span: arguments.path.span() }),
            (None, _) => Err(Error::new(arguments.span(), format!("`batched` needs `max_size`: `{EXAMPLE}`"))),
            (_, None) => Err(Error::new(arguments.span(), format!("`batched` needs `wait`: `{EXAMPLE}`"))),
        }
    }
}
