//! Maps: many calls of one function, as an iterator over their results.
//!
//! Inputs are drawn from an iterator as the host takes them, and results from the host as the author reads them, so a
//! map of a million inputs needs no more memory than one of a thousand. Nothing happens before the first result is
//! read. Dropping the iterator cancels unfinished calls.

mod flow;

use std::iter::FusedIterator;

use self::flow::Flow;
use crate::failure::{Failure, Result};
use crate::host::Order;
use crate::payload::{Output, Payload};

/// Failures that [`KeepGoing`] keeps; further ones are only counted.
///
/// ```
/// // Those beyond are counted: `KeepGoing::failures_count`.
/// assert_eq!(bireme_sdk::FAILURES_LEN_MAX, 10_000);
/// ```
pub const FAILURES_LEN_MAX: usize = 10_000;

/// Results of a map, in the order of the inputs. The first failure ends it and cancels the rest.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn double(n: u32) -> Result<u32> {
///     if n > 1_000 {
///         bail!("{n} is too much");
///     }
///     Ok(n * 2)
/// }
///
/// fn main() -> Result<()> {
///     let doubled: Vec<u32> = double::map(1..=3).collect::<Result<_>>()?;
///     assert_eq!(doubled, [2, 4, 6]);
///
///     let mut results = double::map([1, 2_000, 3]).keep_going();
///     assert_eq!(results.by_ref().collect::<Vec<u32>>(), [2, 6]);
///     assert_eq!(results.failures()[0].0, 1);
///     Ok(())
/// }
/// ```
#[must_use = "a map begins when its first result is asked for"]
pub struct Map<'inputs, T>(Flow<'inputs, T>);

/// Results of a map as they complete, each with the position of its input. The first failure ends it.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn len(text: String) -> usize {
///     text.len()
/// }
///
/// fn main() -> Result<()> {
///     for (index, len) in len::map(["a".to_owned(), "bc".to_owned()]).unordered() {
///         assert_eq!(len?, index as usize + 1);
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a map begins when its first result is asked for"]
pub struct Unordered<'inputs, T>(Flow<'inputs, T>);

/// Successes of a map; its failures are collected.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn third(number: u32) -> Result<u32> {
///     if number % 3 == 0 { Ok(number / 3) } else { Err(Failure::terminal("it is no multiple of 3")) }
/// }
///
/// let mut thirds = third::map([3, 4, 6]).keep_going();
/// assert_eq!(thirds.by_ref().sum::<u32>(), 3);
/// assert_eq!((thirds.failures_count(), thirds.into_failures()[0].0), (1, 1));
/// ```
#[must_use = "a map begins when its first result is asked for"]
pub struct KeepGoing<'inputs, T> {
    flow: Flow<'inputs, T>,
    failures: Vec<(u64, Failure)>,
    failures_count: u64,
}

/// Maps `function` over inputs; expansion of the macro's `map`.
pub fn map<'inputs, T, I>(function: &'static str, inputs: I) -> Map<'inputs, T>
where
    I: Iterator<Item = Result<Payload>> + 'inputs,
{
    Map(Flow::new(function, inputs))
}

impl<'inputs, T> Map<'inputs, T> {
    /// Yields results as they complete instead of in the order of the inputs.
    pub fn unordered(mut self) -> Unordered<'inputs, T> {
        self.0.order = Order::Completion;
        Unordered(self.0)
    }

    /// Waits for all calls and drops their results; the first failure cancels the rest. Expansion of `for_each`.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn store(key: String) -> Result<()> {
    ///     Ok(kv::open("keys")?.set(&key, "")?)
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     let _kv = bireme_sdk::testing::with_kv();
    ///     store::map(["a".to_owned(), "b".to_owned()]).finish()?;
    ///     store::for_each(["c".to_owned()])?;
    ///     assert_eq!(kv::open("keys")?.keys().count(), 3);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The first failure of a call, or of the map itself.
    pub fn finish(self) -> Result<()>
    where
        T: Output,
    {
        self.unordered().try_for_each(|(_, result)| result.map(drop))
    }

    /// Yields only the successes, and keeps the failures.
    pub fn keep_going(self) -> KeepGoing<'inputs, T> {
        KeepGoing { flow: self.0, failures: Vec::new(), failures_count: 0 }
    }
}

impl<'inputs, T> Unordered<'inputs, T> {
    /// Yields only the successes, as they complete, and keeps the failures.
    pub fn keep_going(self) -> KeepGoing<'inputs, T> {
        KeepGoing { flow: self.0, failures: Vec::new(), failures_count: 0 }
    }
}

impl<T> KeepGoing<'_, T> {
    /// Returns the failures so far, with the positions of their inputs; at most [`FAILURES_LEN_MAX`].
    pub fn failures(&self) -> &[(u64, Failure)] {
        &self.failures
    }

    /// Returns the number of failed inputs so far.
    pub fn failures_count(&self) -> u64 {
        self.failures_count
    }

    /// Returns the kept failures.
    pub fn into_failures(self) -> Vec<(u64, Failure)> {
        self.failures
    }
}

impl<T: Output> Iterator for Map<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        self.0.next_or_end().map(|(_, result)| result)
    }
}

impl<T: Output> Iterator for Unordered<'_, T> {
    type Item = (u64, Result<T>);

    fn next(&mut self) -> Option<(u64, Result<T>)> {
        self.0.next_or_end()
    }
}

impl<T: Output> Iterator for KeepGoing<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            match self.flow.next()? {
                (_, Ok(value)) => return Some(value),
                (index, Err(failure)) => {
                    self.failures_count += 1;
                    if self.failures.len() < FAILURES_LEN_MAX {
                        self.failures.push((index, failure));
                    }
                }
            }
        }
    }
}

impl<T: Output> FusedIterator for Map<'_, T> {}
impl<T: Output> FusedIterator for Unordered<'_, T> {}
impl<T: Output> FusedIterator for KeepGoing<'_, T> {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::Code;
    use crate::prelude::*;

    #[function]
    fn plus_one(n: u64) -> Result<u64> {
        if n % 10 == 9 {
            return Err(Failure::terminal(format!("{n} ends in 9")));
        }
        Ok(n + 1)
    }

    #[function]
    fn join(left: String, right: String) -> String {
        left + &right
    }

    #[test]
    fn results_come_in_the_order_of_the_inputs() {
        let results: Result<Vec<u64>> = plus_one::map(0..9).collect();
        assert_eq!(results, Ok((1..=9).collect()));
        assert_eq!(plus_one::map([]).count(), 0);
    }

    #[test]
    fn several_parameters_are_several_iterators_or_one_of_tuples() {
        let strings = |texts: [&str; 2]| texts.map(str::to_owned);
        let pairs = [("a", "b"), ("c", "d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let joined: Result<Vec<String>> = join::starmap(pairs).collect();
        assert_eq!(joined, Ok(strings(["ab", "cd"]).to_vec()));
        let lefts = strings(["a", "c"]).into_iter().chain(["left over".to_owned()]);
        let joined: Result<Vec<String>> = join::map(lefts, strings(["b", "d"])).collect();
        assert_eq!(joined, Ok(strings(["ab", "cd"]).to_vec()));
        assert_eq!(join::for_each(strings(["a", "b"]), strings(["c", "d"])), Ok(()));
    }

    #[test]
    fn for_each_stops_at_the_first_failure() {
        let drawn = Cell::new(0_u64);
        let failure = plus_one::for_each((0..1_000_000).inspect(|_| drawn.set(drawn.get() + 1)));
        assert_eq!(failure, Err(Failure::terminal("9 ends in 9")));
        assert!(drawn.get() < 1_000, "{}", drawn.get());
    }

    #[test]
    fn nothing_is_drawn_before_a_result_is_asked_for_and_never_far_ahead() {
        let drawn = Cell::new(0_u64);
        let inputs = (0..1_000_000).map(|n| n * 10).inspect(|_| drawn.set(drawn.get() + 1));
        let mut results = plus_one::map(inputs);
        assert_eq!(drawn.get(), 0);
        for n in 0..100 {
            assert_eq!(results.next(), Some(Ok(n * 10 + 1)));
            assert!(drawn.get() <= n + 1 + 2 * flow::OFFER_LEN_MAX as u64, "{} drawn at {n}", drawn.get());
        }
    }

    #[test]
    fn the_first_failure_ends_the_map_and_draws_nothing_more() {
        let drawn = Cell::new(0_u64);
        let results: Vec<_> = plus_one::map((8..1_000_000).inspect(|_| drawn.set(drawn.get() + 1))).collect();
        assert_eq!(results, [Ok(9), Err(Failure::terminal("9 ends in 9"))]);
        assert!(drawn.get() < 1_000, "{}", drawn.get());
        assert_eq!(plus_one::map([9, 1]).unordered().collect::<Vec<_>>().len(), 1);
    }

    #[test]
    fn keep_going_yields_the_successes_and_keeps_the_failures() {
        let mut results = plus_one::map(0..100).keep_going();
        assert_eq!(results.by_ref().count(), 90);
        assert_eq!(results.failures_count(), 10);
        assert_eq!(results.failures()[1], (19, Failure::terminal("19 ends in 9")));
        assert_eq!(results.next(), None);
    }

    #[test]
    fn failures_beyond_the_limit_are_counted() {
        let len = FAILURES_LEN_MAX as u64 + 5;
        let mut results = plus_one::map((0..len).map(|_| 9)).keep_going();
        assert_eq!(results.by_ref().count(), 0);
        assert_eq!((results.failures_count(), results.failures().len()), (len, FAILURES_LEN_MAX));
    }

    #[test]
    fn a_map_feeds_another_and_both_are_lazy() {
        let drawn = Cell::new(0_u64);
        let mut first = plus_one::map((0..1_000_000).inspect(|_| drawn.set(drawn.get() + 1))).keep_going();
        let second: Vec<u64> = plus_one::map(first.by_ref().filter(|n| n % 10 != 9))
            .take(20)
            .collect::<Result<_>>()
            .expect("no input ends in 9");
        assert_eq!(second[..9], [2, 3, 4, 5, 6, 7, 8, 9, 12]);
        assert!(drawn.get() < 1_000, "{}", drawn.get());
        assert!(first.failures_count() > 0);
    }

    fn payload(json: &str) -> Payload {
        Payload { content_type: crate::payload::JSON.to_owned(), data: json.into() }
    }

    #[test]
    fn an_unknown_function_fails_at_the_first_result() {
        let mut results = map::<u64, _>("no_such_function", std::iter::repeat_with(|| Ok(payload("null"))));
        assert_eq!(results.next().and_then(Result::err).map(|failure| failure.code), Some(Code::UnknownFunction));
        assert_eq!(results.next(), None);
    }

    #[test]
    fn an_input_that_cannot_be_written_ends_the_map_and_is_named() {
        let inputs = [Ok(payload("1")), Err(Failure::failed("no"))];
        let failures: Vec<_> = map::<u64, _>("plus_one", inputs.into_iter()).filter_map(Result::err).collect();
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].to_string(), "input 1 of the map cannot be sent: no");
    }
}
