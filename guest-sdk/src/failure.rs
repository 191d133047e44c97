//! Failures: kinds, messages and causes of calls without a result.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Result of a function, or of a call of one.
///
/// ```
/// use bireme_sdk::{Failure, Result};
///
/// fn half(number: u32) -> Result<u32> {
///     if number % 2 == 0 { Ok(number / 2) } else { Err(Failure::terminal("it is odd")) }
/// }
/// assert_eq!(half(4), Ok(2));
/// ```
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Causes kept of an error's chain.
const CAUSES_MAX: usize = 16;

/// Kind of a failure. [`Failed`](Code::Failed), [`Terminal`](Code::Terminal), [`InvalidInput`](Code::InvalidInput) and
/// [`UnknownFunction`](Code::UnknownFunction) come from the function, the others from the host.
///
/// ```
/// use bireme_sdk::{Code, Failure};
///
/// assert_eq!(Failure::terminal("it is odd").code, Code::Terminal);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The function returned an error; another attempt may succeed.
    Failed,
    /// The function returned an error that no further attempt can fix; never retried.
    Terminal,
    /// The input does not fit the function's parameters; never retried.
    InvalidInput,
    /// The app has no function of that name; never retried.
    UnknownFunction,
    /// The call's deadline passed.
    Timeout,
    /// The function asked for more memory than its limit.
    MemoryLimit,
    /// The function panicked, exited or trapped.
    Crashed,
    /// The input is larger than the function's input limit.
    InputTooLarge,
    /// The output is larger than the function's output limit.
    OutputTooLarge,
    /// The host has no room for the call now; try again later.
    Overloaded,
    /// The call would nest deeper than the host allows.
    DepthExceeded,
    /// The caller gave the call up, or the host shut down.
    Cancelled,
    /// The host could not do its part.
    Unavailable,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Terminal => "terminal",
            Self::InvalidInput => "invalid-input",
            Self::UnknownFunction => "unknown-function",
            Self::Timeout => "timeout",
            Self::MemoryLimit => "memory-limit",
            Self::Crashed => "crashed",
            Self::InputTooLarge => "input-too-large",
            Self::OutputTooLarge => "output-too-large",
            Self::Overloaded => "overloaded",
            Self::DepthExceeded => "depth-exceeded",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
        })
    }
}

/// A call's failure: a code for programs, a sentence for people, and its causes.
///
/// Every [`std::error::Error`] turns into one with `?`, its chain of sources kept as causes. The errors of this SDK
/// that no further attempt can fix (a host that is not granted, a model that is not declared) become
/// [`Code::Terminal`], everything else [`Code::Failed`]. That is why `Failure` is itself no `std::error::Error`.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// fn port(text: &str) -> Result<u16> {
///     Ok(text.parse::<u16>()?)
/// }
///
/// let failure = port("http").unwrap_err();
/// assert_eq!(failure.code, bireme_sdk::Code::Failed);
/// assert_eq!(failure.message, "invalid digit found in string");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Kind of the failure.
    pub code: Code,
    /// One sentence: the event, its object, and the remedy.
    pub message: String,
    /// Causes, outermost first, without `message` itself.
    pub causes: Vec<String>,
}

impl Failure {
    /// A failure of any code.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), causes: Vec::new() }
    }

    /// A failure that another attempt may fix.
    ///
    /// ```
    /// let failure = bireme_sdk::Failure::failed("the feed has no entries yet");
    /// assert_eq!(failure.code, bireme_sdk::Code::Failed);
    /// ```
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Code::Failed, message)
    }

    /// A failure that no further attempt can fix; the host does not retry it.
    ///
    /// ```
    /// let failure = bireme_sdk::Failure::terminal("`gopher:` is not a scheme that can be fetched");
    /// assert_eq!(failure.code, bireme_sdk::Code::Terminal);
    /// ```
    pub fn terminal(message: impl fmt::Display) -> Self {
        Self::new(Code::Terminal, message)
    }

    /// Prepends a sentence; the message so far becomes the first cause.
    ///
    /// ```
    /// let failure = bireme_sdk::Failure::failed("connection refused").context("cannot load the feed");
    /// assert_eq!(failure.to_string(), "cannot load the feed: connection refused");
    /// ```
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        let cause = std::mem::replace(&mut self.message, message.to_string());
        self.causes.insert(0, cause);
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Returns true if the host never retries the failure.
    pub fn is_terminal(&self) -> bool {
        matches!(self.code, Code::Terminal | Code::InvalidInput | Code::UnknownFunction)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let code = if is_terminal(&error) { Code::Terminal } else { Code::Failed };
        let causes = chain(error.source()).map(ToString::to_string).collect();
        Self { code, message: error.to_string(), causes }
    }
}

/// Returns true if the error, or one in its chain of sources, is a terminal one of this SDK.
fn is_terminal(error: &(dyn Error + 'static)) -> bool {
    chain(Some(error)).any(|error| {
        error.downcast_ref::<crate::http::Error>().is_some_and(crate::http::Error::is_terminal)
            || error.downcast_ref::<crate::model::Error>().is_some_and(crate::model::Error::is_terminal)
            || error.downcast_ref::<crate::kv::Error>().is_some_and(crate::kv::Error::is_terminal)
            || error.downcast_ref::<crate::vectors::Error>().is_some_and(crate::vectors::Error::is_terminal)
            || error.downcast_ref::<crate::config::Error>().is_some_and(crate::config::Error::is_terminal)
            || error.is::<crate::SecretError>()
    })
}

/// The error and its sources, outermost first.
fn chain<'a>(first: Option<&'a (dyn Error + 'static)>) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
    .take(CAUSES_MAX)
}

/// Adds a sentence to a failure on its way up.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// fn first(lines: &str) -> Result<u32> {
///     let line = lines.lines().next().context("the file is empty")?;
///     line.parse::<u32>().with_context(|| format!("`{line}` is not a count"))
/// }
///
/// assert_eq!(first("").unwrap_err().to_string(), "the file is empty");
/// assert_eq!(first("x").unwrap_err().to_string(), "`x` is not a count: invalid digit found in string");
/// ```
pub trait Context<T> {
    /// Prepends a sentence to the failure.
    ///
    /// # Errors
    /// The failure, with the sentence.
    fn context(self, message: impl fmt::Display) -> Result<T>;

    /// Prepends a sentence to the failure; the closure runs only if there is one.
    ///
    /// # Errors
    /// The failure, with the sentence.
    fn with_context<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, message: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(message))
    }

    fn with_context<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| error.into().context(message()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, message: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure::failed(message))
    }

    fn with_context<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.ok_or_else(|| Failure::failed(message()))
    }
}

/// Returns from the function with a failure that another attempt may fix. Takes the arguments of `format!`.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// fn half(n: u32) -> Result<u32> {
///     if n % 2 == 1 {
///         bail!("{n} is odd");
///     }
///     Ok(n / 2)
/// }
///
/// assert_eq!(half(3).unwrap_err().message, "3 is odd");
/// ```
#[macro_export]
macro_rules! bail {
    ($($argument:tt)+) => {
        return ::core::result::Result::Err(::core::convert::From::from($crate::Failure::failed(::core::format_args!($($argument)+))))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn an_error_keeps_its_chain_as_causes() {
        let inner = "x".parse::<u8>().expect_err("`x` is no number");
        let failure = Failure::from(Outer(inner));
        assert_eq!(failure.code, Code::Failed);
        assert_eq!(failure.message, "outer");
        assert_eq!(failure.causes, ["invalid digit found in string"]);
        assert_eq!(failure.to_string(), "outer: invalid digit found in string");
    }

    #[test]
    fn an_error_that_stays_is_terminal() {
        let denied = crate::http::Error::Denied { url: "http://10.0.0.1/".to_owned() };
        assert_eq!(Failure::from(denied).code, Code::Terminal);
    }

    #[test]
    fn a_code_is_spelled_the_same_in_json_and_in_text() {
        for code in [Code::Failed, Code::InvalidInput, Code::OutputTooLarge, Code::DepthExceeded] {
            assert_eq!(serde_json::to_string(&code).expect("a code is JSON"), format!("\"{code}\""));
        }
    }
}
