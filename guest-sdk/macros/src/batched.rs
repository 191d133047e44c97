//! Batched functions: from their own signature to that of a single call.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, GenericArgument, ItemFn, PathArguments, Type};

use crate::attributes::Attributes;
use crate::signature::{Parameter, Returned, Signature, returned};

const SHAPES: &str = "`Vec<Out>`, `Vec<Result<Out>>`, `Result<Vec<Out>>` or `Result<Vec<Result<Out>>>`";

/// A batched function as the host sees it.
pub(crate) struct Single {
    /// Signature with one input and one output.
    pub signature: Signature,
    /// Code that runs it on a group.
    pub run: TokenStream,
}

impl Single {
    /// Parses the shape of a batched function, or lists its mistakes.
    pub(crate) fn read(function: &ItemFn, attributes: &Attributes, signature: Signature) -> syn::Result<Self> {
        let mut errors: Vec<Error> = Vec::new();
        if let (Some(batched), Some(_)) = (&attributes.batched, &attributes.schedule) {
            let message =
                "a schedule makes one call at a time, so there is nothing to group; remove `batched` or `schedule`";
            errors.push(Error::new(batched.span, message));
        }
        let input = match signature.parameters.as_slice() {
            [parameter] => match item(&parameter.of, "Vec") {
                Some(input) => Some((parameter.name.clone(), input)),
                None => {
                    let message = "a batched function takes the inputs of a group as a `Vec`: `Vec<In>`";
                    errors.push(Error::new(parameter.of.span(), message));
                    None
                }
            },
            others => {
                let message = format!(
                    "a batched function takes exactly one parameter, the inputs of a group as a `Vec<In>`, and this one takes {}; \
                     put what belongs to one input into a struct or a tuple",
                    others.len()
                );
                errors.push(Error::new(function.sig.paren_token.span.join(), message));
                None
            }
        };
        let output = Outputs::read(&signature.returned);
        if output.is_none() {
            let message = format!("a batched function returns one output for each input, in their order: {SHAPES}");
            errors.push(Error::new(signature.returned.whole().span(), message));
        }
        match (
            input,
            output,
            errors.into_iter().reduce(|mut all, error| {
                all.combine(error);
                all
            }),
        ) {
            (Some((name, of)), Some(output), None) => {
                let run = run(function, &name.to_string(), &of, &output);
                let parameters = vec![Parameter { name, of }];
                let signature =
                    Signature { parameters, returned: Returned::Value(Box::new(output.of)), doc: signature.doc };
                Ok(Self { signature, run })
            }
            (_, _, error) => Err(error.unwrap_or_else(|| Error::new_spanned(&function.sig, "it cannot be batched"))),
        }
    }
}

/// Result type of a batched function.
struct Outputs {
    /// Type of one output.
    of: Type,
    /// Failure of the whole group: true if its function returns a `Result`.
    is_fallible: bool,
    /// Failure of single inputs: true if their outputs are `Result`s.
    is_each_fallible: bool,
}

impl Outputs {
    fn read(whole: &Returned) -> Option<Self> {
        let (outputs, is_fallible) = match whole {
            Returned::Value(of) => (&**of, false),
            Returned::Result { held, .. } => (&**held.as_ref()?, true),
        };
        let (of, is_each_fallible) = match returned(&item(outputs, "Vec")?) {
            Returned::Value(of) => (*of, false),
            Returned::Result { held, .. } => (*held?, true),
        };
        Some(Self { of, is_fallible, is_each_fallible })
    }
}

/// Writes the body that turns an input payload into an output payload.
fn run(function: &ItemFn, parameter: &str, input: &Type, output: &Outputs) -> TokenStream {
    let ident = &function.sig.ident;
    let (of, parameter) = (&output.of, parameter.strip_prefix("r#").unwrap_or(parameter));
    let question_mark = output.is_fallible.then(|| quote!(?));
    let each = if output.is_each_fallible {
        quote!(|output| ::core::result::Result::map_err(output, ::core::convert::Into::into))
    } else {
        quote!(::core::result::Result::Ok)
    };
    let run = quote_spanned!(input.span()=> ::bireme_sdk::__private::batched::<#input, #of>);
    quote! {
        #run(input, &[#parameter], |inputs| {
            let outputs = #ident(inputs)#question_mark;
            ::core::result::Result::Ok(
                ::core::iter::Iterator::collect(::core::iter::Iterator::map(::core::iter::IntoIterator::into_iter(outputs), #each)),
            )
        })
    }
}

/// Returns the type in `NAME<…>`, by the last part of a path: a macro sees names only.
fn item(of: &Type, name: &str) -> Option<Type> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == name)?;
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
            Some(GenericArgument::Type(item)) if arguments.args.len() == 1 => Some(item.clone()),
            _ => None,
        },
        _ => None,
    }
}
