//! `#[web(route = "GET /pages/{id}", …)]`: the route, and the code beside a web function.

mod route;

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ItemFn, Lit, LitStr, Meta, Token, Type, TypePath};

use self::route::Route;
use crate::attributes::Attributes;
use crate::expansion;
use crate::signature::Signature;

/// Arguments of `#[web]`: a route, and the attributes that web functions share with others.
pub(crate) struct WebAttributes {
    attributes: Attributes,
    literal: LitStr,
    route: Route,
}

impl Parse for WebAttributes {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let span = input.span();
        let metas = Punctuated::<Meta, Token![,]>::parse_terminated(input)?;
        let (mut route, mut others, mut errors) = (None, Vec::new(), Vec::new());
        for meta in metas {
            match meta.path().get_ident().map(ToString::to_string).as_deref() {
                Some("route") if route.is_some() => {
                    errors.push(Error::new(meta.span(), "`route` is given twice; keep one"))
                }
                Some("route") => match read_route(&meta) {
                    Ok(read) => route = Some(read),
                    Err(error) => errors.push(error),
                },
                Some("retries") => errors.push(Error::new(
                    meta.span(),
                    "a web function cannot be retried, because part of its response may already be sent; remove `retries`",
                )),
                Some("schedule") => errors.push(Error::new(
                    meta.span(),
                    "a web function answers requests and has no schedule; give `schedule` to a `#[function]`",
                )),
                Some("batched") => errors.push(Error::new(
                    meta.span(),
                    "a web function answers one request at a time; give `batched` to a `#[function]` and call that",
                )),
                _ => others.push(meta),
            }
        }
        let attributes = Attributes::read(others).map_err(|error| errors.push(error)).unwrap_or_default();
        if route.is_none() && errors.is_empty() {
            errors.push(Error::new(span, "a web function needs a route: `#[web(route = \"GET /search\")]`"));
        }
        match (route, combined(errors)) {
            (_, Some(error)) => Err(error),
            (Some((literal, route)), None) => {
                let attributes = Attributes { route: Some(literal.value()), ..attributes };
                Ok(Self { attributes, literal, route })
            }
            (None, None) => unreachable!("no route is an error"),
        }
    }
}

fn read_route(meta: &Meta) -> syn::Result<(LitStr, Route)> {
    let literal = match meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.clone(),
            other => return Err(Error::new(other.span(), "expected a string literal, such as \"GET /pages/{id}\"")),
        },
        other => return Err(Error::new(other.span(), "`route` takes a value: `route = \"GET /pages/{id}\"`")),
    };
    let route = Route::read(&literal.value()).map_err(|message| Error::new(literal.span(), message))?;
    Ok((literal, route))
}

fn combined(errors: Vec<Error>) -> Option<Error> {
    errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    })
}

/// Writes the entry beside the function.
pub(crate) fn expand(function: &ItemFn, web: &WebAttributes, signature: &Signature) -> TokenStream {
    let ident = &function.sig.ident;
    let (name, doc) = (ident.unraw().to_string(), &signature.doc);
    let parameters = &signature.parameters;
    let names: Vec<String> = parameters.iter().map(|parameter| parameter.name.unraw().to_string()).collect();
    // A parameter of the whole request gives access to the path's parts as well.
    let is_whole = |of: &Type| {
        let last = |path: &TypePath| path.path.segments.last().is_some_and(|last| last.ident == "Request");
        matches!(of, Type::Path(path) if last(path))
    };
    let takes_whole = parameters.iter().any(|parameter| is_whole(&parameter.of));
    let missing = web.route.parameters.iter().filter(|wanted| !takes_whole && !names.contains(wanted)).map(|wanted| {
        let message =
            format!("the route has `{{{wanted}}}`, and the function no parameter `{wanted}`; add it, or rename one");
        Error::new(web.literal.span(), message)
    });
    if let Some(error) = combined(missing.collect()) {
        return error.to_compile_error();
    }
    let locals: Vec<_> = (0..names.len()).map(|i| format_ident!("argument_{i}")).collect();
    let types: Vec<_> = parameters.iter().map(|parameter| &parameter.of).collect();
    let private = quote!(::bireme_sdk::__private::web);
    let sources: Vec<_> =
        types.iter().map(|of| quote_spanned!(of.span()=> <#of as ::bireme_sdk::web::Parameter>::SOURCE)).collect();
    let checks = names.iter().zip(&sources).zip(&types).filter_map(|((name, source), of)| {
        let check = if web.route.parameters.contains(name) {
            quote_spanned!(of.span()=> ::bireme_sdk::__private::web::check_path)
        } else if matches!(web.route.method.as_str(), "GET" | "HEAD") {
            quote_spanned!(of.span()=> ::bireme_sdk::__private::web::check_body)
        } else {
            return None;
        };
        Some(quote_spanned!(of.span()=> const _: () = #check(#source);))
    });
    let takes = types.iter().zip(&names).zip(&locals).map(|((of, name), local)| {
        quote_spanned! {of.span()=>
            let #local: #of = match <#of as #private::Parameter>::take(#name, request) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(problem) => return #private::Respond::respond(problem),
            };
        }
    });
    let describes = types
        .iter()
        .zip(&names)
        .map(|(of, name)| quote_spanned!(of.span()=> <#of as #private::Parameter>::describe(#name, &mut schemas);));
    let returned = signature.returned.whole();
    let respond = quote_spanned!(returned.span()=> <#returned as #private::Respond>::respond(value));
    let schema = quote_spanned!(returned.span()=> <#returned as #private::Respond>::schema());
    let reads = quote_spanned! {ident.span()=>
        const _: () = ::bireme_sdk::__private::web::check_reads(&[#(#sources),*]);
    };
    let (app, attributes) = (expansion::app(), expansion::declared(&web.attributes));
    quote! {
        const _: () = {
            #( #checks )*
            #reads

            fn __run(request: &mut ::bireme_sdk::web::Request) -> ::bireme_sdk::web::Response {
                #( #takes )*
                let value: #returned = #ident(#(#locals),*);
                #respond
            }

            fn __schemas() -> ::bireme_sdk::__private::Schemas {
                #[allow(unused_mut, reason = "a function may take nothing")]
                let mut schemas = #private::SchemasBuilder::new();
                #( #describes )*
                schemas.finish(#schema)
            }

            ::bireme_sdk::__private::inventory::submit! {
                #private::Entry {
                    app: #app,
                    name: #name,
                    source: ::core::concat!(::core::file!(), ":", ::core::line!()),
                    doc: #doc,
                    parameters: &[#(#names),*],
                    attributes: #attributes,
                    run: __run,
                    schemas: __schemas,
                    server: #private::SERVER,
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let read = syn::parse_str::<WebAttributes>(text).err().expect("the attributes are wrong");
        read.into_iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn a_route_stands_beside_the_attributes_of_any_function() {
        let web: WebAttributes =
            syn::parse_str(r#"route = "GET /pages/{id}/{*rest}", timeout = "1s""#).expect("it is right");
        assert_eq!(
            (web.route.method.as_str(), web.route.parameters),
            ("GET", vec!["id".to_owned(), "rest".to_owned()])
        );
        assert_eq!(web.attributes.timeout_ms, Some(1_000));
    }

    #[test]
    fn what_makes_no_sense_here_is_said_in_one_go() {
        let errors = errors(r#"route = "GET /", retries = 2, schedule = cron("* * * * *"), timeuot = "1s""#);
        assert_eq!(errors.len(), 3);
        assert!(errors[0].contains("remove `retries`") && errors[1].contains("has no schedule"), "{errors:?}");
        assert!(errors[2].contains("did you mean `timeout`?"), "{errors:?}");
    }

    #[test]
    fn a_web_function_has_one_route() {
        assert_eq!(errors(""), ["a web function needs a route: `#[web(route = \"GET /search\")]`"]);
        assert_eq!(errors(r#"route = "GET /", route = "GET /a""#), ["`route` is given twice; keep one"]);
        assert_eq!(errors("route = 1"), ["expected a string literal, such as \"GET /pages/{id}\""]);
    }
}
