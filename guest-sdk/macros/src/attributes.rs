//! Arguments of `#[function(…)]`.

mod batched;
mod checks;
mod retries;
mod schedule;
#[cfg(test)]
mod tests;
mod values;

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Ident, Meta, Token};

pub(crate) use self::batched::Batched;
pub(crate) use self::retries::Retries;
pub(crate) use self::schedule::{Schedule, Times};
use self::values::{string_list, unit, whole_number};
use crate::{suggestion, units};

const KNOWN: [&str; 11] = [
    "timeout",
    "memory",
    "retries",
    "concurrency",
    "batched",
    "schedule",
    "outbound",
    "models",
    "tokens",
    "tokens_per_day",
    "secrets",
];
const CONCURRENCY_MAX: u32 = 1_000;
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// The given attributes, checked.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// Route of a web function.
    pub route: Option<String>,
    pub timeout_ms: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub retries: Option<Retries>,
    pub concurrency: Option<u32>,
    pub batched: Option<Batched>,
    pub schedule: Option<Schedule>,
    pub outbound: Vec<String>,
    pub models: Vec<String>,
    pub tokens: Option<u64>,
    pub tokens_per_day: Option<u64>,
    pub secrets: Vec<String>,
}

impl Parse for Attributes {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Self::read(Punctuated::<Meta, Token![,]>::parse_terminated(input)?)
    }
}

impl Attributes {
    /// Parses the comma-separated arguments.
    pub(crate) fn read(metas: impl IntoIterator<Item = Meta>) -> syn::Result<Self> {
        let mut attributes = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        let mut errors: Option<Error> = None;
        for meta in metas {
            let result = match meta.path().get_ident() {
                Some(name) if seen.contains(name) => {
                    Err(Error::new(name.span(), format!("`{name}` is given twice; keep one")))
                }
                Some(name) => {
                    seen.push(name.clone());
                    attributes.set(name, &meta)
                }
                None => Err(Error::new(
                    meta.path().span(),
                    format!("this is not an attribute of a function; there are {}", known()),
                )),
            };
            if let Err(error) = result {
                match &mut errors {
                    Some(errors) => errors.combine(error),
                    None => errors = Some(error),
                }
            }
        }
        errors.map_or(Ok(attributes), Err)
    }

    fn set(&mut self, name: &Ident, meta: &Meta) -> syn::Result<()> {
        match name.to_string().as_str() {
            "timeout" => self.timeout_ms = Some(unit(meta, "\"10s\"", units::timeout_ms)?),
            "memory" => self.memory_bytes = Some(unit(meta, "\"64MiB\"", units::memory_bytes)?),
            "retries" => self.retries = Some(Retries::read(meta)?),
            "concurrency" => self.concurrency = Some(whole_number(meta, "4", 1, CONCURRENCY_MAX)?),
            "batched" => self.batched = Some(Batched::read(meta)?),
            "schedule" => self.schedule = Some(Schedule::read(meta)?),
            "outbound" => {
                self.outbound = string_list(meta, "[\"https://api.example.com\", \"$site\"]", checks::origin)?;
            }
            "models" => self.models = string_list(meta, "[\"all-minilm-l6-v2\"]", checks::model)?,
            "tokens" => self.tokens = Some(whole_number(meta, "100_000", 1, TOKENS_MAX)?),
            "tokens_per_day" => {
                self.tokens_per_day = Some(whole_number(meta, "5_000_000", 1, TOKENS_MAX)?);
            }
            "secrets" => self.secrets = string_list(meta, "[\"API_KEY\"]", checks::secret)?,
            "route" => {
                return Err(Error::new(
                    name.span(),
                    "`route` belongs to `#[web]`: write `#[web(route = \"GET /search\")]`",
                ));
            }
            unknown => {
                return Err(Error::new(
                    name.span(),
                    format!("unknown attribute `{unknown}`; {}there are {}", meant(unknown, &KNOWN), known()),
                ));
            }
        }
        Ok(())
    }
}

fn known() -> String {
    list(&KNOWN)
}

/// Returns ``did you mean `…`? ``, or an empty text.
fn meant(typed: &str, known: &[&str]) -> String {
    suggestion::nearest(typed, known).map(|word| format!("did you mean `{word}`? ")).unwrap_or_default()
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
