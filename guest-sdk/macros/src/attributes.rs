//! What stands in the parentheses of `#[function(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, Token};

use crate::{suggestion, units};

const KNOWN: [&str; 5] = ["timeout", "memory", "retries", "outbound", "models"];
const RETRIES_MAX: u32 = 100;

/// The attributes that were given, checked.
#[derive(Debug, Default)]
pub struct Attributes {
    pub timeout_ms: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub retries: Option<u32>,
    pub outbound: Vec<String>,
    pub models: Vec<String>,
}

impl Parse for Attributes {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attributes = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        let mut errors: Option<Error> = None;
        for meta in Punctuated::<Meta, Token![,]>::parse_terminated(input)? {
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
}

impl Attributes {
    fn set(&mut self, name: &Ident, meta: &Meta) -> syn::Result<()> {
        match name.to_string().as_str() {
            "timeout" => self.timeout_ms = Some(unit(meta, "\"10s\"", units::timeout_ms)?),
            "memory" => self.memory_bytes = Some(unit(meta, "\"64MiB\"", units::memory_bytes)?),
            "retries" => self.retries = Some(retries(meta)?),
            "outbound" => self.outbound = strings(meta, "[\"https://api.example.com\", \"$site\"]", check_origin)?,
            "models" => self.models = strings(meta, "[\"all-minilm-l6-v2\"]", check_model)?,
            unknown => {
                let meant = suggestion::nearest(unknown, &KNOWN)
                    .map(|word| format!("did you mean `{word}`? "))
                    .unwrap_or_default();
                return Err(Error::new(
                    name.span(),
                    format!("unknown attribute `{unknown}`; {meant}there are {}", known()),
                ));
            }
        }
        Ok(())
    }
}

fn known() -> String {
    KNOWN.map(|name| format!("`{name}`")).join(", ")
}

fn value<'a>(meta: &'a Meta, example: &str) -> syn::Result<&'a Expr> {
    match meta {
        Meta::NameValue(pair) => Ok(&pair.value),
        other => {
            let name = other.path().get_ident().map(ToString::to_string).unwrap_or_default();
            Err(Error::new(other.span(), format!("`{name}` takes a value: `{name} = {example}`")))
        }
    }
}

fn string<'a>(expression: &'a Expr, example: &str) -> syn::Result<&'a LitStr> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
        other => Err(Error::new(other.span(), format!("expected a string literal, such as {example}"))),
    }
}

fn unit(meta: &Meta, example: &str, read: fn(&str) -> Result<u64, String>) -> syn::Result<u64> {
    let text = string(value(meta, example)?, example)?;
    read(&text.value()).map_err(|message| Error::new(text.span(), message))
}

fn retries(meta: &Meta) -> syn::Result<u32> {
    let expression = value(meta, "2")?;
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = expression else {
        return Err(Error::new(expression.span(), "expected a whole number, such as 2"));
    };
    match number.base10_parse::<u32>() {
        Ok(retries) if retries <= RETRIES_MAX => Ok(retries),
        _ => Err(Error::new(
            number.span(),
            format!("`{number}` is out of range: `retries` goes from 0 to {RETRIES_MAX}"),
        )),
    }
}

fn strings(meta: &Meta, example: &str, check: fn(&str) -> Result<(), String>) -> syn::Result<Vec<String>> {
    let expression = value(meta, example)?;
    let Expr::Array(array) = expression else {
        return Err(Error::new(expression.span(), format!("expected a list of string literals, such as {example}")));
    };
    let mut texts = Vec::with_capacity(array.elems.len());
    for element in &array.elems {
        let literal = string(element, example)?;
        let text = literal.value();
        check(&text).map_err(|message| Error::new(literal.span(), message))?;
        if texts.contains(&text) {
            return Err(Error::new(literal.span(), format!("`{text}` is listed twice; keep one")));
        }
        texts.push(text);
    }
    Ok(texts)
}

/// An origin (`https://api.example.com`, `http://localhost:8000`) or the name of one that the operator grants (`$site`).
fn check_origin(text: &str) -> Result<(), String> {
    if let Some(name) = text.strip_prefix('$') {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        return if is_name {
            Ok(())
        } else {
            Err(format!("`{text}` is not a name: after `$` come letters, digits, `-` or `_`"))
        };
    }
    let Some(authority) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Err(format!(
            "`{text}` is not an origin: write `https://{text}`, or `$name` for one that the operator grants"
        ));
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.is_empty()
        || authority.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@' | '*' | '\\'))
    {
        return Err(format!(
            "`{text}` is not an origin: a scheme, a host and perhaps a port, such as `https://api.example.com:8443`"
        ));
    }
    Ok(())
}

fn check_model(text: &str) -> Result<(), String> {
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'));
    if is_name {
        Ok(())
    } else {
        Err(format!("`{text}` is not a model's name: letters, digits, `-`, `_`, `.` and `/`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        syn::parse_str::<Attributes>(text)
            .expect_err("the attributes are wrong")
            .into_iter()
            .map(|error| error.to_string())
            .collect()
    }

    #[test]
    fn every_attribute_is_read() {
        let attributes: Attributes =
            syn::parse_str(r#"timeout = "10s", memory = "64MiB", retries = 2, outbound = ["$site", "https://example.com"], models = ["m"],"#)
                .expect("the attributes are right");
        assert_eq!(attributes.timeout_ms, Some(10_000));
        assert_eq!(attributes.memory_bytes, Some(64 << 20));
        assert_eq!(attributes.retries, Some(2));
        assert_eq!(attributes.outbound, ["$site", "https://example.com"]);
        assert_eq!(attributes.models, ["m"]);
    }

    #[test]
    fn every_mistake_is_reported_in_one_go() {
        assert_eq!(
            errors(r#"memroy = "64MiB", schedule = "daily", retries = -1, timeout"#),
            [
                "unknown attribute `memroy`; did you mean `memory`? there are `timeout`, `memory`, `retries`, `outbound`, `models`",
                "unknown attribute `schedule`; there are `timeout`, `memory`, `retries`, `outbound`, `models`",
                "expected a whole number, such as 2",
                "`timeout` takes a value: `timeout = \"10s\"`",
            ]
        );
    }

    #[test]
    fn an_ill_typed_value_says_what_was_expected() {
        assert_eq!(errors("timeout = 10"), ["expected a string literal, such as \"10s\""]);
        assert_eq!(errors("retries = 101"), ["`101` is out of range: `retries` goes from 0 to 100"]);
        assert_eq!(errors(r#"models = "m""#), ["expected a list of string literals, such as [\"all-minilm-l6-v2\"]"]);
        assert_eq!(errors("retries = 1, retries = 2"), ["`retries` is given twice; keep one"]);
    }

    #[test]
    fn an_origin_has_no_path_and_needs_a_scheme() {
        assert!(errors(r#"outbound = ["example.com"]"#)[0].contains("write `https://example.com`"));
        assert!(errors(r#"outbound = ["https://example.com/a"]"#)[0].contains("is not an origin"));
        assert!(errors(r#"outbound = ["$"]"#)[0].contains("is not a name"));
    }
}
