//! Spawned calls, which outlive the function that spawned them.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::failure::Result;
use crate::host;
use crate::payload::{Output, Payload};

/// A durable call, kept on the host's disk: it outlives the call that spawned it and a restart of the host. Its result
/// is read here, or anywhere in the app by its id.
///
/// The host runs it at least once, and again if it crashes meanwhile. A retried function spawns again, too. Cancelling
/// the call that spawned it cancels it; the end of that call does not.
///
/// ```
/// use std::time::Duration;
///
/// use bireme_sdk::Spawned;
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn twice(n: u32) -> u32 {
///     n * 2
/// }
///
/// /// Returns the id of a call whose result is asked for later.
/// #[function]
/// fn begin(n: u32) -> Result<String> {
///     Ok(twice::spawn(n)?.id().to_owned())
/// }
///
/// /// Returns its result, once there is one.
/// #[function]
/// fn look(id: String) -> Result<Option<u32>> {
///     Spawned::open(id).get(Duration::from_millis(100))
/// }
///
/// fn main() -> Result<()> {
///     assert_eq!(twice::spawn(20)?.wait()?, 40);
///     assert_eq!(look(begin(21)?)?, Some(42));
///     Ok(())
/// }
/// ```
pub struct Spawned<T> {
    id: String,
    of: PhantomData<fn() -> T>,
}

/// Spawns a call of `function`; expansion of the macro's `spawn`.
///
/// # Errors
/// The host's failure.
pub fn spawn<T>(function: &str, input: &Payload) -> Result<Spawned<T>> {
    host::spawn(function, input).map(Spawned::open)
}

impl<T> Spawned<T> {
    /// Opens a call by its id, with a result of type `T`. Sends nothing to the host yet: the first [`get`](Self::get)
    /// reports an unknown id.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use bireme_sdk::Spawned;
    ///
    /// let unknown = Spawned::<u32>::open("0199c0de-0000-7000-8000-000000000000");
    /// assert!(unknown.get(Duration::ZERO).unwrap_err().is_terminal());
    /// ```
    pub fn open(id: impl Into<String>) -> Self {
        Self { id: id.into(), of: PhantomData }
    }

    /// Returns the id: unique on its host, sortable by time.
    ///
    /// ```
    /// let call = bireme_sdk::Spawned::<u32>::open("0199c0de-0000-7000-8000-000000000000");
    /// assert_eq!(call.id(), "0199c0de-0000-7000-8000-000000000000");
    /// ```
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Cancels the call and its descendants; returns whether it is cancelled. An ended call stays as it was.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn bell() -> String {
    ///     "pong".to_owned()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     // In a native test a spawned call has ended when `spawn` returns.
    ///     assert!(!bell::spawn()?.cancel()?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The host's failure; [`Code::Terminal`](crate::Code::Terminal) if it is no call of this app.
    pub fn cancel(&self) -> Result<bool> {
        host::cancel(&self.id)
    }
}

impl<T: Output> Spawned<T> {
    /// Returns the result once there is one, or `None` after `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn third_of(n: u32) -> Result<u32> {
    ///     if n % 3 == 0 { Ok(n / 3) } else { Err(Failure::terminal("it is no multiple of 3")) }
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     assert_eq!(third_of::spawn(9)?.get(Duration::from_secs(1))?, Some(3));
    ///     assert!(third_of::spawn(10)?.get(Duration::from_secs(1)).is_err());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The call's failure, or the host's; [`Code::Terminal`](crate::Code::Terminal) if it is no call of this app.
    pub fn get(&self, timeout: Duration) -> Result<Option<T>> {
        let ended = host::get(&self.id, timeout)?;
        ended.map(|result| T::read(&format!("call {}", self.id), result?)).transpose()
    }

    /// Waits for the result, until the running call's own deadline.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn length(text: String) -> usize {
    ///     text.len()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     let (first, second) = (length::spawn("a".to_owned())?, length::spawn("bc".to_owned())?); // both run at once
    ///     assert_eq!(first.wait()? + second.wait()?, 3);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn wait(&self) -> Result<T> {
        loop {
            if let Some(value) = self.get(Duration::MAX)? {
                return Ok(value);
            }
        }
    }
}

impl<T> Clone for Spawned<T> {
    fn clone(&self) -> Self {
        Self::open(self.id.clone())
    }
}

impl<T> fmt::Debug for Spawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spawned").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::prelude::*;

    #[function]
    fn plus(left: u32, right: u32) -> Result<u32> {
        left.checked_add(right).context("it is too much")
    }

    #[function]
    fn nested(depth: u32) -> Result<u32> {
        if depth == 0 { Ok(0) } else { Ok(nested::spawn(depth - 1)?.wait()? + 1) }
    }

    #[test]
    fn a_result_is_kept_and_found_by_its_id_as_often_as_it_is_asked_for() {
        let call = plus::spawn(1, 2).expect("it spawns");
        let again = Spawned::<u32>::open(call.id());
        assert_eq!((call.wait(), again.get(Duration::ZERO), again.wait()), (Ok(3), Ok(Some(3)), Ok(3)));
        let other = plus::spawn(1, 3).expect("it spawns");
        assert_ne!(call.id(), other.id());
        assert_eq!((other.wait(), call.clone().wait()), (Ok(4), Ok(3)));
    }

    #[test]
    fn the_failure_of_a_call_comes_with_its_result() {
        let call = plus::spawn(u32::MAX, 1).expect("it spawns");
        assert_eq!(call.wait(), Err(Failure::failed("it is too much")));
    }

    #[test]
    fn an_unknown_id_and_a_result_of_another_type_are_terminal() {
        let unknown = Spawned::<u32>::open("no id");
        assert_eq!(unknown.wait().map_err(|failure| failure.code), Err(Code::Terminal));
        assert_eq!(unknown.cancel().map_err(|failure| failure.code), Err(Code::Terminal));
        let call = plus::spawn(1, 2).expect("it spawns");
        let failure = Spawned::<String>::open(call.id()).wait().expect_err("3 is no text");
        assert_eq!(failure.message, format!("the result of `call {}` does not fit its own type", call.id()));
    }

    #[test]
    fn spawned_calls_nest_as_deep_as_calls_do() {
        assert_eq!(nested::call(3), Ok(3));
        assert_eq!(nested::call(4).map_err(|failure| failure.code), Err(Code::DepthExceeded));
    }
}
