//! Attribute macros of `bireme-sdk`. Use them through that crate: their expansions name `::bireme_sdk`.
//!
//! `attributes` parses the arguments, `signature` the function's types, `expansion` writes the code. Every mistake is
//! reported at its token, all of them in one compilation, and the author's function is kept as it stands so that one
//! mistake does not cause others.

mod attributes;
mod batched;
mod expansion;
mod signature;
mod suggestion;
mod units;
mod web;

use proc_macro::TokenStream;
use quote::quote;
use syn::ItemFn;
use syn::parse::Parse;

use crate::attributes::Attributes;
use crate::signature::Signature;

/// Makes a plain function one that the host can call.
///
/// The function stays as it is: `scrape(url)` is an ordinary call. Beside it stands a type of the same name with
///
/// - `scrape::call(url) -> Result<T>`: one call through the host, in a fresh sandbox, with the function's own limits;
/// - `scrape::map(urls) -> Map<T>`: one such call for each input (for several parameters: for each tuple).
///
/// Parameters are named, owned values that implement `Serialize`, `Deserialize` and `JsonSchema`; an `Option` may be
/// left out by the caller. The result is a `T` that implements the same, or a `Result<T, E>` whose error turns into a
/// `Failure`, as every `std::error::Error` does.
///
/// Since that type takes the function's name, no module or type beside the function may have it.
///
/// | attribute | is | absent |
/// |---|---|---|
/// | `timeout = "10s"` | all the time of one attempt; `ms`, `s`, `m`, `h`; 1ms to 24h | the host's default |
/// | `memory = "64MiB"` | the most linear memory; `KiB`, `MiB`, `GiB`; 1MiB to 4GiB | the host's default |
/// | `retries = 2` | further attempts after a failure that is not terminal; 0 to 100 | the host's default |
/// | `retries(max = 3, backoff = 2.0, initial = "1s", max_delay = "60s")` | the same with a spacing of its own: the first wait, its factor from one to the next (1 to 10), the longest (up to 1h); half of each wait is random | 1s, doubled each time, up to 60s |
/// | `concurrency = 4` | the most calls of this function at a time on one host; further ones wait in the queue; 1 to 1000 | no limit of its own |
/// | `batched(max_size = 64, wait = "10ms")` | called with single inputs, runs on groups of them, see below | one input a run |
/// | `schedule = cron("0 6 * * MON", tz = "Europe/Stockholm")` | when the host calls it by itself: minute, hour, day of the month, month, day of the week, in a time zone (`UTC` if none is given) | never |
/// | `schedule = period("15m")` | the same, again and again from its first deployment; 1s to 720h | never |
/// | `schedule = cron("…", missed = "run_once")` | of `cron` and `period`: what becomes of a run whose time passed while the host was down or asleep: `"skip"`, or `"run_once"` for all that were missed | `"skip"` |
/// | `schedule = period("…", overlap = "allow")` | of `cron` and `period`: what becomes of a run that is due while the one before it goes on: `"skip"`, `"allow"` both, or `"queue"`: one waits, more are skipped | `"skip"` |
/// | `outbound = ["https://api.example.com", "$site"]` | origins that the function may reach over HTTP; a `$name` is an origin that the operator grants | none |
/// | `models = ["all-minilm-l6-v2"]` | models that the function may use | none |
/// | `tokens = 100_000` | the most tokens of one attempt, over all models | no limit of its own |
/// | `tokens_per_day = 5_000_000` | the most tokens of all calls of this function on one host, from midnight to midnight in UTC | no limit of its own |
/// | `secrets = ["API_KEY"]` | secrets that the operator gives, read as environment variables: `std::env::var("API_KEY")` | none |
///
/// A scheduled function is called without an input, so all of its parameters are `Option`s.
///
/// A function of limited `concurrency` that calls itself waits for a place that only it can free: such a call fails as
/// `overloaded` when the caller's own time is over. Give it one place for each level, or no limit.
///
/// # Groups
///
/// With `batched(max_size = 64, wait = "10ms")` the function is called with single inputs and runs on groups of them.
/// It takes one parameter, `Vec<In>`, and returns one output for each input in their order: `Vec<Out>`, or
/// `Vec<Result<Out>>` where single inputs can fail; either of them in a `Result` where the group can fail as a whole.
/// `call(input: In) -> Result<Out>`, `map` and `for_each` take single inputs; `f(vec)` is the plain function.
///
/// - A group runs when it has `max_size` inputs (1 to 1000), `wait` after its first input (0ms to 10s), or when its
///   inputs together would be over the limit of one input (8 MiB). Who waits longer gets larger groups; a lone call
///   always waits as long as that.
/// - Inputs meet that are for the same version of the app. A group runs in one sandbox, with one slot and one place of
///   `concurrency`, within one `timeout` and one `memory`.
/// - An input that does not fit `In` fails alone, before the function sees the group. An `Err` in the `Vec` fails its
///   input alone and is retried as `retries` says, in another group.
/// - A group that crashed, ran out of memory or failed as a whole is run again in halves, one that met its deadline
///   input by input, so that the one at fault fails alone: what happened before must bear being done twice. These runs
///   count as attempts, not as retries. A `Failure::terminal` for the whole group fails all of it at once, and so does
///   a number of outputs that is not the number of inputs.
/// - What a group costs is divided among the receipts of its inputs. Its log carries the call id of its first input.
/// - Inputs and outputs are JSON; `Bytes` cannot be grouped, and a batched function has no `schedule`.
///
/// Tokens are counted when a model has answered, so the request that reaches a limit is answered, and so are those
/// under way at the same time; what comes after fails as `model::Error::BudgetExceeded`. A host that is started anew
/// counts its day from there.
#[proc_macro_attribute]
pub fn function(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(attributes, item, Signature::read, |function, attributes: &Attributes, signature| {
        expansion::expand(function, attributes, signature).unwrap_or_else(syn::Error::into_compile_error)
    })
}

/// Makes a plain function answer HTTP requests.
///
/// `route` is a method and a path below the app: `"GET /pages/{id}"`. A parameter of the function whose name stands
/// between braces is that part of the path, decoded; `{*rest}` at the end takes all that is left, `*` for the method
/// takes every method. The other parameters come from the query or the body, as their types say: see the module `web`
/// of the SDK. Of the routes that fit a request the most particular one answers, segment by segment: text before
/// `{name}` before `{*rest}`.
///
/// The other attributes are those of `#[function]`, but for `retries` and `schedule`. The function stays as it is.
#[proc_macro_attribute]
pub fn web(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(attributes, item, Signature::read_of_web, |function, attributes, signature| {
        web::expand(function, attributes, &signature)
    })
}

/// Keeps the function as it is, followed by its expansion, or by every mistake in it.
fn expand<A: Parse>(
    attributes: TokenStream,
    item: TokenStream,
    read: fn(&ItemFn) -> syn::Result<Signature>,
    expand: fn(&ItemFn, &A, Signature) -> proc_macro2::TokenStream,
) -> TokenStream {
    let function: ItemFn = match syn::parse(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.to_compile_error();
            let item = proc_macro2::TokenStream::from(item);
            return quote!(#error #item).into();
        }
    };
    let expansion = match (syn::parse::<A>(attributes), read(&function)) {
        (Ok(attributes), Ok(signature)) => expand(&function, &attributes, signature),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => error.to_compile_error(),
        (Err(mut error), Err(other)) => {
            error.combine(other);
            error.to_compile_error()
        }
    };
    quote!(#function #expansion).into()
}
