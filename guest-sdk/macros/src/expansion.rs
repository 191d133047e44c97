//! Code beside an author's function: its entry in the app, `call` and `map`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Ident, ItemFn, Type};

use crate::attributes::{Attributes, Retries, Times};
use crate::batched::Single;
use crate::signature::{Parameter, Returned, Signature};

/// Writes all code beside the function, or the errors of a batched one.
pub(crate) fn expand(function: &ItemFn, attributes: &Attributes, signature: Signature) -> syn::Result<TokenStream> {
    let (signature, run) = if attributes.batched.is_some() {
        let single = Single::read(function, attributes, signature)?;
        (single.signature, single.run)
    } else {
        let run = run(function, &signature);
        (signature, run)
    };
    let entry = entry(function, attributes, &signature, &run);
    let callers = callers(function, &signature);
    Ok(quote! { #entry #callers })
}

/// Returns the type of the function's value.
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

/// The author's crate as a constant.
pub(crate) fn app() -> TokenStream {
    quote! {
        ::bireme_sdk::__private::App {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            description: ::core::env!("CARGO_PKG_DESCRIPTION"),
        }
    }
}

/// The attributes as a constant.
pub(crate) fn declared(attributes: &Attributes) -> TokenStream {
    let route = number(attributes.route.as_ref());
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
    let schedule = option(attributes.schedule.as_ref().map(|schedule| {
        let (missed, overlap) = (number(schedule.missed), number(schedule.overlap));
        let policies = quote!(missed: #missed, overlap: #overlap);
        match &schedule.times {
            Times::Cron { cron, tz } => {
                quote!(::bireme_sdk::__private::Schedule::Cron { cron: #cron, tz: #tz, #policies })
            }
            Times::Period { period_ms } => {
                quote!(::bireme_sdk::__private::Schedule::Period { period_ms: #period_ms, #policies })
            }
        }
    }));
    let batched = option(attributes.batched.map(|batched| {
        let (max_size, wait_ms) = (batched.max_size, batched.wait_ms);
        quote!(::bireme_sdk::__private::Batched { max_size: #max_size, wait_ms: #wait_ms })
    }));
    let (tokens, tokens_per_day) = (number(attributes.tokens), number(attributes.tokens_per_day));
    let (outbound, models, secrets) = (&attributes.outbound, &attributes.models, &attributes.secrets);
    quote! {
        ::bireme_sdk::__private::Attributes {
            route: #route,
            timeout_ms: #timeout_ms,
            memory_bytes: #memory_bytes,
            retries: #retries,
            concurrency: #concurrency,
            batched: #batched,
            schedule: #schedule,
            outbound: &[#(#outbound),*],
            models: &[#(#models),*],
            tokens: #tokens,
            tokens_per_day: #tokens_per_day,
            secrets: &[#(#secrets),*],
        }
    }
}

/// Writes the body that turns an input payload into an output payload.
fn run(function: &ItemFn, signature: &Signature) -> TokenStream {
    let ident = &function.sig.ident;
    let (names, types) = parameters(signature);
    let locals: Vec<_> = (0..names.len()).map(|i| format_ident!("argument_{i}")).collect();
    let output = output(signature);
    let value = match &signature.returned {
        Returned::Value(_) => quote!(#ident(#(#locals),*)),
        Returned::Result { .. } => quote!(#ident(#(#locals),*)?),
    };
    let read = match types.as_slice() {
        [of] => {
            quote_spanned!(of.span()=> let argument_0 = <#of as ::bireme_sdk::Input>::read(input, &[#(#names),*])?;)
        }
        types => {
            let reads = types.iter().zip(&locals).zip(0_usize..).map(
                |((of, local), position)| quote_spanned!(of.span()=> let #local = arguments.take::<#of>(#position)?;),
            );
            quote! {
                let mut arguments =
                    ::bireme_sdk::__private::Arguments::read(::bireme_sdk::__private::json_of(&input)?, &[#(#names),*])?;
                #( #reads )*
                ::core::mem::drop(arguments);
                ::core::mem::drop(input);
            }
        }
    };
    let write = quote_spanned!(signature.returned.span()=> <#output as ::bireme_sdk::Output>::write(value));
    quote! {
        #read
        let value: #output = #value;
        #write
    }
}

/// Returns the parameters' names, as callers write them, and their types.
fn parameters(signature: &Signature) -> (Vec<String>, Vec<&Type>) {
    signature.parameters.iter().map(|parameter| (parameter.name.unraw().to_string(), &parameter.of)).unzip()
}

fn entry(function: &ItemFn, attributes: &Attributes, signature: &Signature, run: &TokenStream) -> TokenStream {
    let name = function.sig.ident.unraw().to_string();
    let doc = &signature.doc;
    let (names, types) = parameters(signature);
    let output = output(signature);
    let (app, attributes) = (app(), declared(attributes));
    let describe = match types.as_slice() {
        [of] => quote_spanned!(of.span()=> <#of as ::bireme_sdk::Input>::describe(#(#names),*, &mut schemas);),
        types => {
            let describes =
                types.iter().zip(&names).map(|(of, name)| quote_spanned!(of.span()=> schemas.parameter::<#of>(#name);));
            quote!( #( #describes )* )
        }
    };
    let returned = signature.returned.span();
    let finish = quote_spanned!(returned=> schemas.finish(<#output as ::bireme_sdk::Output>::schema()));
    quote! {
        const _: () = {
            fn __run(input: ::bireme_sdk::__private::Payload) -> ::bireme_sdk::Result<::bireme_sdk::__private::Payload> {
                #run
            }

            fn __schemas() -> ::bireme_sdk::__private::Schemas {
                let mut schemas = ::bireme_sdk::__private::SchemasBuilder::new();
                #describe
                #finish
            }

            ::bireme_sdk::__private::inventory::submit! {
                ::bireme_sdk::__private::Entry {
                    app: #app,
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

/// The type beside the function, with its ways to call it.
fn callers(function: &ItemFn, signature: &Signature) -> TokenStream {
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let name = ident.unraw().to_string();
    let output = output(signature);
    let idents: Vec<_> = signature.parameters.iter().map(|parameter| &parameter.name).collect();
    let names: Vec<String> = idents.iter().map(|ident| ident.unraw().to_string()).collect();
    let types: Vec<&Type> = signature.parameters.iter().map(|parameter: &Parameter| &parameter.of).collect();
    let type_doc = format!("[`{name}()`], called through the host.");
    let call_doc = format!("Calls `{name}` through the host, in a fresh sandbox, and waits for its result.");
    let spawn_doc = format!(
        "Has the host keep a call of `{name}`, and returns once it is on disk; it outlives the call that spawned it."
    );
    let input = match (idents.as_slice(), types.as_slice()) {
        ([ident], [of]) => quote_spanned!(of.span()=> <#of as ::bireme_sdk::Input>::write(#ident, #(#names),*)),
        (idents, types) => {
            let puts = idents
                .iter()
                .zip(&names)
                .zip(types)
                .map(|((ident, name), of)| quote_spanned!(of.span()=> __writer.put::<#of>(#name, #ident)?;));
            quote! {
                let mut __writer = ::bireme_sdk::__private::ArgumentsWriter::new();
                #( #puts )*
                ::core::result::Result::Ok(__writer.finish())
            }
        }
    };
    let returned = signature.returned.span();
    let call = quote_spanned!(returned=> ::bireme_sdk::__private::call::<#output>);
    let spawn = quote_spanned!(returned=> ::bireme_sdk::__private::spawn::<#output>);
    let maps = maps(&name, &output, returned, &idents, &types);
    quote! {
        #[doc = #type_doc]
        #[allow(non_camel_case_types, reason = "it stands beside the function of this name")]
        #visibility enum #ident {}

        #[allow(dead_code, reason = "an author uses the ways to call that are needed")]
        impl #ident {
            #[doc = #call_doc]
            pub fn call(#(#idents: #types),*) -> ::bireme_sdk::Result<#output> {
                #call(#name, &Self::__input(#(&#idents),*)?)
            }

            #[doc = #spawn_doc]
            pub fn spawn(#(#idents: #types),*) -> ::bireme_sdk::Result<::bireme_sdk::Spawned<#output>> {
                #spawn(#name, &Self::__input(#(&#idents),*)?)
            }

            #maps

            #[allow(clippy::ptr_arg, reason = "the types are the function's own")]
            fn __input(#(#idents: &#types),*) -> ::bireme_sdk::Result<::bireme_sdk::__private::Payload> {
                #input
            }
        }
    }
}

/// `map`, `starmap` and `for_each`, and the durable `spawn_map` and `spawn_starmap`. As with Modal, `map` takes one
/// iterator for each parameter and `starmap` one of tuples.
fn maps(name: &str, output: &TokenStream, returned: Span, idents: &[&Ident], types: &[&Type]) -> TokenStream {
    let map_doc = match idents {
        [] | [_] => {
            format!("Calls `{name}` once for each input, each in a fresh sandbox; the results are an iterator.")
        }
        _ => format!(
            "Calls `{name}` once for each step of its inputs, one iterator for each parameter, until one ends; the \
             results are an iterator."
        ),
    };
    let starmap_doc = format!("Calls `{name}` once for each tuple of its parameters; the results are an iterator.");
    let for_each_doc = format!(
        "Calls `{name}` once for each input as [`map`](Self::map) does, and waits for all of them; the first failure \
         cancels the rest."
    );
    let spawn_map_doc = format!(
        "Has the host keep a map of `{name}` over the inputs of [`map`](Self::map), and returns once they are on \
         disk; it outlives the call that spawned it."
    );
    let spawn_starmap_doc = format!(
        "Has the host keep a map of `{name}` over tuples of its parameters, and returns once they are on disk; it \
         outlives the call that spawned it."
    );
    let generics: Vec<_> = (0..idents.len().max(1)).map(|i| format_ident!("__Inputs{i}")).collect();
    let arguments: Vec<_> = match idents {
        [] => vec![format_ident!("inputs")],
        idents => idents.iter().map(|ident| (*ident).clone()).collect(),
    };
    let items: Vec<TokenStream> = match types {
        [] => vec![quote!(())],
        types => types.iter().map(|of| quote!(#of)).collect(),
    };
    let bounds = quote! {
        #(
            #generics: ::core::iter::IntoIterator<Item = #items>,
            #generics::IntoIter: 'inputs,
        )*
    };
    // (a, (b, (c))), as nested `zip`s yield them.
    let (mut zipped, mut pattern, mut item) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for ((argument, of), i) in arguments.iter().zip(&items).rev().zip(0..) {
        let iterator = quote!(::core::iter::IntoIterator::into_iter(#argument));
        let bound = if idents.is_empty() { quote!(()) } else { quote!(#argument) };
        if i == 0 {
            (zipped, pattern, item) = (iterator, bound, of.clone());
        } else {
            zipped = quote!(::core::iter::Iterator::zip(#iterator, #zipped));
            pattern = quote!((#bound, #pattern));
            item = quote!((#of, #item));
        }
    }
    let starmap = (idents.len() > 1).then(|| {
        quote! {
            #[doc = #starmap_doc]
            pub fn starmap<'inputs, __Inputs>(inputs: __Inputs) -> ::bireme_sdk::Map<'inputs, #output>
            where
                __Inputs: ::core::iter::IntoIterator<Item = (#(#types,)*)>,
                __Inputs::IntoIter: 'inputs,
            {
                ::bireme_sdk::__private::map(
                    #name,
                    ::core::iter::Iterator::map(
                        ::core::iter::IntoIterator::into_iter(inputs),
                        |(#(#idents,)*): (#(#types,)*)| Self::__input(#(&#idents),*),
                    ),
                )
            }
        }
    });
    let spawn_starmap = (idents.len() > 1).then(|| {
        quote! {
            #[doc = #spawn_starmap_doc]
            pub fn spawn_starmap<__Inputs>(inputs: __Inputs) -> ::bireme_sdk::Result<::bireme_sdk::MapHandle<#output>>
            where
                __Inputs: ::core::iter::IntoIterator<Item = (#(#types,)*)>,
            {
                ::bireme_sdk::__private::spawn_map(
                    #name,
                    ::core::iter::Iterator::map(
                        ::core::iter::IntoIterator::into_iter(inputs),
                        |(#(#idents,)*): (#(#types,)*)| Self::__input(#(&#idents),*),
                    ),
                )
            }
        }
    });
    let finish = quote_spanned!(returned=> ::bireme_sdk::Map::<#output>::finish(Self::map(#(#arguments),*)));
    quote! {
        #[doc = #map_doc]
        pub fn map<'inputs, #(#generics),*>(#(#arguments: #generics),*) -> ::bireme_sdk::Map<'inputs, #output>
        where
            #bounds
        {
            ::bireme_sdk::__private::map(
                #name,
                ::core::iter::Iterator::map(#zipped, |#pattern: #item| Self::__input(#(&#idents),*)),
            )
        }

        #starmap

        #[doc = #for_each_doc]
        pub fn for_each<'inputs, #(#generics),*>(#(#arguments: #generics),*) -> ::bireme_sdk::Result<()>
        where
            #bounds
        {
            #finish
        }

        #[doc = #spawn_map_doc]
        pub fn spawn_map<#(#generics),*>(
            #(#arguments: #generics),*
        ) -> ::bireme_sdk::Result<::bireme_sdk::MapHandle<#output>>
        where
            #( #generics: ::core::iter::IntoIterator<Item = #items>, )*
        {
            ::bireme_sdk::__private::spawn_map(
                #name,
                ::core::iter::Iterator::map(#zipped, |#pattern: #item| Self::__input(#(&#idents),*)),
            )
        }

        #spawn_starmap
    }
}
