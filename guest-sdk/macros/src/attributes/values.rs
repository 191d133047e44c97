//! Values of attributes: literals, with their spans for errors.

use std::fmt::Display;
use std::str::FromStr;

use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, LitInt, LitStr, Meta};

/// Returns the value in `name = value`.
pub(super) fn value<'a>(meta: &'a Meta, example: &str) -> syn::Result<&'a Expr> {
    match meta {
        Meta::NameValue(pair) => Ok(&pair.value),
        other => {
            let name = other.path().get_ident().map(ToString::to_string).unwrap_or_default();
            Err(Error::new(other.span(), format!("`{name}` takes a value: `{name} = {example}`")))
        }
    }
}

/// Returns a string literal.
pub(super) fn string<'a>(expression: &'a Expr, example: &str) -> syn::Result<&'a LitStr> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
        other => Err(Error::new(other.span(), format!("expected a string literal, such as {example}"))),
    }
}

/// Parses a number with a unit, as a string literal.
pub(super) fn unit(meta: &Meta, example: &str, read: fn(&str) -> Result<u64, String>) -> syn::Result<u64> {
    let text = string(value(meta, example)?, example)?;
    read(&text.value()).map_err(|message| Error::new(text.span(), message))
}

/// Parses a whole number between two bounds.
pub(super) fn whole_number<T: FromStr<Err: Display> + PartialOrd + Display>(
    meta: &Meta,
    example: &str,
    min: T,
    max: T,
) -> syn::Result<T> {
    let expression = value(meta, example)?;
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = expression else {
        return Err(Error::new(expression.span(), format!("expected a whole number, such as {example}")));
    };
    let name = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
    within(number, &name, min, max)
}

/// Parses a number, whole or not, between two bounds.
pub(super) fn number(meta: &Meta, example: &str, min: f64, max: f64) -> syn::Result<f64> {
    let expression = value(meta, example)?;
    let parsed = match expression {
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => number.base10_parse::<f64>(),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse::<f64>(),
        other => return Err(Error::new(other.span(), format!("expected a number, such as {example}"))),
    }?;
    if (min..=max).contains(&parsed) {
        return Ok(parsed);
    }
    let name = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
    Err(Error::new(expression.span(), format!("`{parsed}` is out of range: `{name}` goes from {min} to {max}")))
}

fn within<T: FromStr<Err: Display> + PartialOrd + Display>(
    number: &LitInt,
    name: &str,
    min: T,
    max: T,
) -> syn::Result<T> {
    match number.base10_parse::<T>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(Error::new(number.span(), format!("`{number}` is out of range: `{name}` goes from {min} to {max}"))),
    }
}

/// Parses a list of string literals, each checked, none repeated.
pub(super) fn string_list(
    meta: &Meta,
    example: &str,
    check: fn(&str) -> Result<(), String>,
) -> syn::Result<Vec<String>> {
    let expression = value(meta, example)?;
    let Expr::Array(array) = expression else {
        return Err(Error::new(expression.span(), format!("expected a list of string literals, such as {example}")));
    };
    let mut texts = Vec::with_capacity(array.elems.len());
    let mut errors: Option<Error> = None;
    for element in &array.elems {
        let text = string(element, example).and_then(|literal| {
            let text = literal.value();
            check(&text).map_err(|message| Error::new(literal.span(), message))?;
            if texts.contains(&text) {
                return Err(Error::new(literal.span(), format!("`{text}` is listed twice; keep one")));
            }
            Ok(text)
        });
        match (text, &mut errors) {
            (Ok(text), _) => texts.push(text),
            (Err(error), Some(errors)) => errors.combine(error),
            (Err(error), none) => *none = Some(error),
        }
    }
    errors.map_or(Ok(texts), Err)
}
