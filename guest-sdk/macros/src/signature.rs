//! Signatures of functions, and the types that cannot cross to the host.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{
    Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ItemFn, Lit, Meta, Pat, PathArguments, ReturnType, Token, Type,
};

/// One named parameter.
pub(crate) struct Parameter {
    pub name: Ident,
    pub of: Type,
}

/// Result type of a function.
pub(crate) enum Returned {
    /// Any type that is not a `Result`.
    Value(Box<Type>),
    /// A `Result`: the whole type, and that of its value where the macro can see it.
    Result { whole: Box<Type>, held: Option<Box<Type>> },
}

impl Returned {
    /// Returns the type as it stands.
    pub(crate) fn whole(&self) -> &Type {
        match self {
            Self::Value(of) | Self::Result { whole: of, .. } => of,
        }
    }

    /// Returns the span of the type, for errors about it.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Value(of) | Self::Result { held: Some(of), .. } | Self::Result { whole: of, held: None } => of.span(),
        }
    }
}

/// A function's signature, checked.
pub(crate) struct Signature {
    pub parameters: Vec<Parameter>,
    pub returned: Returned,
    pub doc: String,
}

impl Signature {
    /// Parses the signature, or lists every mistake in it.
    pub(crate) fn read(function: &ItemFn) -> syn::Result<Self> {
        Self::read_as(function, true)
    }

    /// Parses the signature of a web function, whose result goes to a client and may borrow `'static` data.
    pub(crate) fn read_of_web(function: &ItemFn) -> syn::Result<Self> {
        Self::read_as(function, false)
    }

    fn read_as(function: &ItemFn, is_result_owned: bool) -> syn::Result<Self> {
        let mut errors: Vec<Error> = Vec::new();
        let signature = &function.sig;
        if let Some(token) = &signature.asyncness {
            errors.push(Error::new(
                token.span(),
                "a function is not `async`: each call has a sandbox of its own, so it may simply wait; remove `async`",
            ));
        }
        if let syn::Safety::Unsafe(token) = &signature.safety {
            errors.push(Error::new(token.span(), "the host cannot call an `unsafe` function; remove `unsafe`"));
        }
        if let Some(abi) = &signature.abi {
            errors.push(Error::new_spanned(abi, "a function has no ABI of its own; remove `extern`"));
        }
        if !signature.generics.params.is_empty() {
            errors.push(Error::new_spanned(
                &signature.generics,
                "a function has no generic parameters: the host calls it by name, with one type for each parameter",
            ));
        }
        if let Some(clause) = &signature.generics.where_clause {
            errors.push(Error::new_spanned(clause, "a function has no `where` clause: its types are concrete"));
        }
        let parameters = signature.inputs.iter().filter_map(|argument| parameter(argument, &mut errors)).collect();
        let returned = match &signature.output {
            ReturnType::Default => Returned::Value(Box::new(syn::parse_quote!(()))),
            ReturnType::Type(_, of) => {
                if is_result_owned {
                    check_owned(of, "result", &mut errors);
                }
                returned(of)
            }
        };
        let doc = doc(function);
        errors
            .into_iter()
            .reduce(|mut all, error| {
                all.combine(error);
                all
            })
            .map_or(Ok(Self { parameters, returned, doc }), Err)
    }
}

fn parameter(argument: &FnArg, errors: &mut Vec<Error>) -> Option<Parameter> {
    let argument = match argument {
        FnArg::Receiver(receiver) => {
            let reason = "a function has no `self`: a call begins in a fresh sandbox and everything it needs is in its \
                              parameters";
            errors.push(Error::new_spanned(receiver, reason));
            return None;
        }
        FnArg::Typed(argument) => argument,
    };
    check_owned(&argument.ty, "parameter", errors);
    match &*argument.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            Some(Parameter { name: pattern.ident.clone(), of: (*argument.ty).clone() })
        }
        other => {
            errors.push(Error::new_spanned(other, "a parameter needs a name: callers give it as a key of the input"));
            None
        }
    }
}

fn check_owned(of: &Type, what: &'static str, errors: &mut Vec<Error>) {
    struct Borrows<'e> {
        what: &'static str,
        errors: &'e mut Vec<Error>,
    }
    impl<'ast> Visit<'ast> for Borrows<'_> {
        fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "take `String`",
                Type::Slice(_) => "take a `Vec`",
                _ => "take the value itself",
            };
            self.errors.push(Error::new_spanned(
                reference,
                format!("a {} cannot be a reference, since it comes from another sandbox: {owned}", self.what),
            ));
        }
        fn visit_type_impl_trait(&mut self, of: &'ast syn::TypeImplTrait) {
            self.errors
                .push(Error::new_spanned(of, format!("a {} has one concrete type, not `impl Trait`", self.what)));
        }
    }
    Borrows { what, errors }.visit_type(of);
}

/// Takes a type whose last name is `Result` for one, as every macro must: it sees names only.
pub(crate) fn returned(of: &Type) -> Returned {
    let Type::Path(path) = of else {
        return Returned::Value(Box::new(of.clone()));
    };
    let Some(last) = path.path.segments.last().filter(|segment| segment.ident == "Result") else {
        return Returned::Value(Box::new(of.clone()));
    };
    let held = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => first_type(&arguments.args),
        _ => None,
    };
    Returned::Result { whole: Box::new(of.clone()), held: held.map(Box::new) }
}

fn first_type(arguments: &Punctuated<GenericArgument, Token![,]>) -> Option<Type> {
    arguments.iter().find_map(|argument| match argument {
        GenericArgument::Type(of) => Some(of.clone()),
        _ => None,
    })
}

fn doc(function: &ItemFn) -> String {
    let lines: Vec<String> = function
        .attrs
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                    let text = text.value();
                    Some(text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned())
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let function = syn::parse_str::<ItemFn>(text).expect("the text is a function");
        Signature::read(&function)
            .err()
            .expect("the signature is wrong")
            .into_iter()
            .map(|error| error.to_string())
            .collect()
    }

    #[test]
    fn parameters_result_and_doc_are_read() {
        let function: ItemFn = syn::parse_str(
            "/// One.\n///\n///  Two.\nfn f(a: String, mut b: Option<u8>) -> std::result::Result<Vec<u8>, E> {}",
        )
        .expect("the text is a function");
        let signature = Signature::read(&function).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            signature.parameters.iter().map(|parameter| parameter.name.to_string()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(matches!(signature.returned, Returned::Result { held: Some(_), .. }));
        assert_eq!(signature.doc, "One.\n\n Two.");
    }

    #[test]
    fn shapes_that_cannot_cross_to_the_host_are_refused() {
        assert!(errors("async fn f() {}")[0].contains("remove `async`"));
        assert!(errors("fn f<T>(a: T) {}")[0].contains("no generic parameters"));
        assert!(errors("fn f(&self) {}")[0].contains("no `self`"));
        assert!(errors("fn f((a, b): (u8, u8)) {}")[0].contains("needs a name"));
        assert!(errors("fn f(a: impl Into<String>) {}")[0].contains("not `impl Trait`"));
    }

    #[test]
    fn each_reference_is_reported_with_what_to_take_instead() {
        let errors = errors("fn f(a: &str, b: Vec<&[u8]>) -> &'static str {}");
        assert_eq!(errors.len(), 3);
        assert!(
            errors[0].contains("take `String`")
                && errors[1].contains("take a `Vec`")
                && errors[2].contains("a result cannot")
        );
    }
}
