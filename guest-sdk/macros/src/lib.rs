//! Attribute macros of `bireme-sdk`. Use them through that crate: their expansions name `::bireme_sdk`.
//!
//! `attributes` parses the arguments, `signature` the function's types, `expansion` writes the code. Every mistake is
//! reported at its token, all of them in one compilation, and the author's function is kept as it stands so that one
//! mistake does not cause others.

#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

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

/// Registers a plain function with the host.
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
/// Keys, with their defaults:
///
/// - `timeout = "10s"`: wall-clock time of one attempt; `ms`, `s`, `m`, `h`; 1ms to 24h. Default: the host's.
/// - `memory = "64MiB"`: linear memory; `KiB`, `MiB`, `GiB`; 1MiB to 4GiB. Default: the host's.
/// - `retries = 2`: further attempts after a failure that is not terminal; 0 to 100. Default: the host's.
/// - `retries(max = 3, backoff = 2.0, initial = "1s", max_delay = "60s")`: the same with delays of its own: the first
///   delay, its factor from one to the next (1 to 10), the longest (up to 1h); half of each delay is random. Default:
///   1s, doubled each time, up to 60s.
/// - `concurrency = 4`: concurrent calls of this function on one host; further ones wait in the queue; 1 to 1000.
///   Default: no limit of its own.
/// - `batched(max_size = 64, wait = "10ms")`: called with single inputs, runs on groups of them, see below. Default:
///   one input a run.
/// - `schedule = cron("0 6 * * MON", tz = "Europe/Stockholm")`: times at which the host calls it: minute, hour, day of
///   the month, month, day of the week, in a time zone (`UTC` if none is given). Default: none.
/// - `schedule = period("15m")`: the same with a fixed period, counted from its first deployment; 1s to 720h.
/// - `schedule = cron("0 6 * * *", missed = "run_once")`: of `cron` and `period`: policy for a run that was due while
///   the host was down or asleep: `"skip"`, or `"run_once"` for all missed ones. Default: `"skip"`.
/// - `schedule = period("15m", overlap = "allow")`: of `cron` and `period`: policy for a run that is due while the
///   previous one is still running: `"skip"`, `"allow"` both, or `"queue"`: one waits, more are skipped. Default:
///   `"skip"`.
/// - `outbound = ["https://api.example.com", "$site"]`: origins that the function may reach over HTTP; a `$name` is an
///   origin that the operator grants. Default: none.
/// - `models = ["all-minilm-l6-v2"]`: models that the function may use. Default: none.
/// - `tokens = 100_000`: tokens of one attempt, over all models. Default: no limit of its own.
/// - `tokens_per_day = 5_000_000`: tokens of all calls of this function on one host, from midnight to midnight in UTC.
///   Default: no limit of its own.
/// - `secrets = ["API_KEY"]`: secrets that the operator sets, read as environment variables:
///   `std::env::var("API_KEY")`. Default: none.
///
/// A scheduled function is called without an input, so all of its parameters are `Option`s.
///
/// A function with a `concurrency` limit that calls itself can deadlock on that limit: such a call fails as
/// `overloaded` at the caller's own deadline. Allow one call for each level, or set no limit.
///
/// # Groups
///
/// With `batched(max_size = 64, wait = "10ms")` the function is called with single inputs and runs on groups of them.
/// It takes one parameter, `Vec<In>`, and returns one output for each input in their order: `Vec<Out>`, or
/// `Vec<Result<Out>>` where single inputs can fail; either of them in a `Result` where the group can fail as a whole.
/// `call(input: In) -> Result<Out>`, `map` and `for_each` take single inputs; `f(vec)` is the plain function.
///
/// - A group runs when it has `max_size` inputs (1 to 1000), `wait` after its first input (0ms to 10s), or when its
///   inputs together would be over the limit of one input (8 MiB). A longer `wait` makes larger groups, and a lone call
///   always waits that long.
/// - A group holds inputs for one version of the app. It runs in one sandbox, with one slot, as one call for
///   `concurrency`, within one `timeout` and one `memory`.
/// - An input that does not fit `In` fails alone, before the function sees the group. An `Err` in the `Vec` fails its
///   input alone and is retried as `retries` says, in another group.
/// - A group that crashed, ran out of memory or failed as a whole is run again in halves, one that met its deadline
///   input by input, so that the faulty one fails alone: the function must be idempotent. These runs count as attempts,
///   not as retries. A `Failure::terminal` for the whole group fails all of it at once, and so does a number of outputs
///   other than the number of inputs.
/// - The cost of a group is divided among the receipts of its inputs. Its log carries the call id of its first input.
/// - Inputs and outputs are JSON; `Bytes` cannot be grouped, and a batched function has no `schedule`.
///
/// Tokens are counted after a model's response, so the request that reaches a limit still succeeds, and so do
/// concurrent ones; later requests fail as `model::Error::BudgetExceeded`. A restarted host counts its day from zero.
#[proc_macro_attribute]
pub fn function(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(attributes, item, Signature::read, |function, attributes: &Attributes, signature| {
        expansion::expand(function, attributes, signature).unwrap_or_else(syn::Error::into_compile_error)
    })
}

/// Turns a plain function into a handler of HTTP requests.
///
/// `route` is a method and a path below the app: `"GET /pages/{id}"`. A parameter of the function whose name stands
/// between braces is that part of the path, decoded; `{*rest}` at the end takes all that is left, `*` for the method
/// takes every method. The other parameters come from the query or the body, by their types: see the module `web` of
/// the SDK. Among the routes that match a request the most specific one answers, segment by segment: text before
/// `{name}` before `{*rest}`.
///
/// The other keys are those of `#[function]`, except `retries`, `schedule` and `batched`. The function stays as it is.
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
