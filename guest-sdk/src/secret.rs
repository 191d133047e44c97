//! Secrets that the function declares and the operator sets.

use crate::host;

/// A secret that is not set for the function.
///
/// ```
/// let error = bireme_sdk::secret("NO_SUCH_KEY").unwrap_err();
/// assert_eq!(error.name, "NO_SUCH_KEY");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this function does not declare the secret `{name}`; add `secrets = [\"{name}\"]` to its `#[function]`")]
pub struct SecretError {
    /// The secret's name.
    pub name: String,
}

/// Returns a secret: the environment variable of that name, set only for functions that declare it.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function(secrets = ["API_KEY"], outbound = ["https://api.example.com"])]
/// fn quota() -> Result<u32> {
///     Ok(http::get("https://api.example.com/quota").bearer(secret("API_KEY")?).send()?.error_for_status()?.json()?)
/// }
///
/// fn main() -> Result<()> {
///     let _secret = bireme_sdk::testing::with_secret("API_KEY", "abc");
///     let _http = bireme_sdk::testing::with_http(|request| {
///         let is_known = request.header_value("authorization") == Some(b"Bearer abc");
///         Ok(http::Response::new(if is_known { 200 } else { 401 }, "7"))
///     });
///     assert_eq!(quota()?, 7);
///     Ok(())
/// }
/// ```
///
/// # Errors
/// The function does not declare it.
pub fn secret(name: &str) -> Result<String, SecretError> {
    host::secret(name).ok_or_else(|| SecretError { name: name.to_owned() })
}
