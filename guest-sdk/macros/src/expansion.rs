//! The code beside an author's function: its entry in the app, and `call` and `map`.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{ItemFn, Type};

use crate::attributes::{Attributes, Retries, Schedule};
use crate::signature::{Parameter, Returned, Signature};

/// Writes everything that stands beside the function.
pub fn expand(function: &ItemFn, attributes: &Attributes, signature: &Signature) -> TokenStream {
    let entry = entry(function, attributes, signature);
    let callers = callers(function, signature);
    quote! { #entry #callers }
}

/// The type that the function's result holds.
fn output(signature: &Signature) -> TokenStream {
    match &signature.returned {
        Returned::Value(of) => quote!(#of),
        Returned::Result { held: Some(held), .. } => quote!(#held),
        Returned::Result { whole, held: None } => {
            quote!(<#whole as ::bireme_sdk::__private::Fallible>::Value)
        }
    }
}

fn option(value: Option<TokenStream>) -> TokenStream {
    value.map_or_else(|| quote!(::core::option::Option::None), |value| quote!(::core::option::Option::Some(#value)))
}

fn number<T: ToTokens>(value: Option<T>) -> TokenStream {
    option(value.map(|value| quote!(#value)))
}

/// The attributes as a constant.
pub fn declared(attributes: &Attributes) -> TokenStream {
    let timeout_ms = number(attributes.timeout_ms);
    let memory_bytes = number(attributes.memory_bytes);
    let concurrency = number(attributes.concurrency);
    let retries = option(attributes.retries.map(|retries| match retries {
        Retries::Count(count) => quote!(::bireme_sdk::__private::Retries::Count(#count)),
        Retries::Spaced { max, backoff, initial_ms, max_delay_ms } => {
            let (backoff, initial_ms, max_delay_ms) = (number(backoff), number(initial_ms), number(max_delay_ms));
            quote!(::bireme_sdk::__private::Retries::Spaced {
                max: #max, backoff: #backoff, initial_ms: #initial_ms, max_delay_ms: #max_delay_ms,
            })
        }
    }));
    let schedule = option(attributes.schedule.as_ref().map(|schedule| match schedule {
        Schedule::Cron { cron, tz } => quote!(::bireme_sdk::__private::Schedule::Cron { cron: #cron, tz: #tz }),
        Schedule::Period { period_ms } => quote!(::bireme_sdk::__private::Schedule::Period { period_ms: #period_ms }),
    }));
    let (outbound, models, secrets) = (&attributes.outbound, &attributes.models, &attributes.secrets);
    quote! {
        ::bireme_sdk::__private::Attributes {
            timeout_ms: #timeout_ms,
            memory_bytes: #memory_bytes,
            retries: #retries,
            concurrency: #concurrency,
            schedule: #schedule,
            outbound: &[#(#outbound),*],
            models: &[#(#models),*],
            secrets: &[#(#secrets),*],
        }
    }
}

fn entry(function: &ItemFn, attributes: &Attributes, signature: &Signature) -> TokenStream {
    let ident = &function.sig.ident;
    let name = ident.unraw().to_string();
    let doc = &signature.doc;
    let names: Vec<String> = signature.parameters.iter().map(|parameter| parameter.name.unraw().to_string()).collect();
    let types: Vec<&Type> = signature.parameters.iter().map(|parameter| &parameter.of).collect();
    let locals: Vec<_> = (0..names.len()).map(|i| format_ident!("argument_{i}")).collect();
    let positions = 0..names.len();
    let output = output(signature);
    let value = match &signature.returned {
        Returned::Value(_) => quote!(#ident(#(#locals),*)),
        Returned::Result { .. } => quote!(#ident(#(#locals),*)?),
    };
    let attributes = declared(attributes);
    quote! {
        const _: () = {
            fn __run(input: &[u8]) -> ::bireme_sdk::Result<::std::vec::Vec<u8>> {
                let mut arguments = ::bireme_sdk::__private::Arguments::read(input, &[#(#names),*])?;
                #( let #locals: #types = arguments.take(#positions)?; )*
                ::core::mem::drop(arguments);
                let value: #output = #value;
                ::bireme_sdk::__private::encode_output(&value)
            }

            fn __schemas() -> ::bireme_sdk::__private::Schemas {
                let mut schemas = ::bireme_sdk::__private::SchemasBuilder::new();
                #( schemas.parameter::<#types>(#names); )*
                schemas.finish::<#output>()
            }

            ::bireme_sdk::__private::inventory::submit! {
                ::bireme_sdk::__private::Entry {
                    app: ::bireme_sdk::__private::App {
                        name: ::core::env!("CARGO_PKG_NAME"),
                        version: ::core::env!("CARGO_PKG_VERSION"),
                        description: ::core::env!("CARGO_PKG_DESCRIPTION"),
                    },
                    name: #name,
                    source: ::core::concat!(::core::file!(), ":", ::core::line!()),
                    doc: #doc,
                    parameters: &[#(#names),*],
                    attributes: #attributes,
                    run: __run,
                    schemas: __schemas,
                }
            }
        };
    }
}

fn callers(function: &ItemFn, signature: &Signature) -> TokenStream {
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let name = ident.unraw().to_string();
    let output = output(signature);
    let idents: Vec<_> = signature.parameters.iter().map(|parameter| &parameter.name).collect();
    let names: Vec<String> = idents.iter().map(|ident| ident.unraw().to_string()).collect();
    let types: Vec<&Type> = signature.parameters.iter().map(|parameter: &Parameter| &parameter.of).collect();
    let (item, pattern) = match (idents.as_slice(), types.as_slice()) {
        ([ident], [of]) => (quote!(#of), quote!(#ident)),
        (idents, types) => (quote!((#(#types,)*)), quote!((#(#idents,)*))),
    };
    let type_doc = format!("[`{name}()`], called through the host.");
    let call_doc = format!("Calls `{name}` through the host, in a fresh sandbox, and waits for its result.");
    let map_doc = format!("Calls `{name}` once for each input, each in a fresh sandbox; the results are an iterator.");
    quote! {
        #[doc = #type_doc]
        #[allow(non_camel_case_types, reason = "it stands beside the function of this name")]
        #visibility enum #ident {}

        #[allow(dead_code, reason = "an author uses the ways to call that are needed")]
        impl #ident {
            #[doc = #call_doc]
            pub fn call(#(#idents: #types),*) -> ::bireme_sdk::Result<#output> {
                ::bireme_sdk::__private::call(#name, Self::__input(#(&#idents),*)?)
            }

            #[doc = #map_doc]
            pub fn map<'inputs, __Inputs>(inputs: __Inputs) -> ::bireme_sdk::Map<'inputs, #output>
            where
                __Inputs: ::core::iter::IntoIterator<Item = #item>,
                __Inputs::IntoIter: 'inputs,
            {
                ::bireme_sdk::__private::map(
                    #name,
                    ::core::iter::Iterator::map(::core::iter::IntoIterator::into_iter(inputs), |#pattern: #item| Self::__input(#(&#idents),*)),
                )
            }

            #[allow(clippy::ptr_arg, reason = "the types are the function's own")]
            fn __input(#(#idents: &#types),*) -> ::bireme_sdk::Result<::std::vec::Vec<u8>> {
                let mut __writer = ::bireme_sdk::__private::ArgumentsWriter::new();
                #( __writer.put(#names, #idents)?; )*
                ::core::result::Result::Ok(__writer.finish())
            }
        }
    }
}
