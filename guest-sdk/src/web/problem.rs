//! Errors as problem documents (RFC 9457).

use serde::Serialize;

use super::Response;
use crate::failure::{Code, Failure};

/// An error for a client: a status, a code for programs, a sentence for people.
///
/// Every error and every [`Failure`] turns into one with `?`, so a handler that chooses a status of its own returns
/// `Result<_, Problem>`.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::Problem;
///
/// #[web(route = "GET /pages/{id}")]
/// fn page(id: String) -> Result<String, Problem> {
///     let page = kv::open("pages")?.get(&id)?.ok_or_else(|| Problem::new(404, format!("no page `{id}`")))?;
///     Ok(String::from_utf8(page)?)
/// }
///
/// fn main() {
///     let _kv = bireme_sdk::testing::with_kv();
///     let response = bireme_sdk::testing::web("GET", "/pages/7").send();
///     assert_eq!(response.status, 404);
///     let problem: bireme_sdk::serde_json::Value = response.json().unwrap();
///     assert_eq!(problem["detail"], "no page `7`");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    code: Box<str>,
    detail: String,
    /// Command that explains the code, as in the host's own documents; none for a code of the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

impl Problem {
    /// A problem with a status from 400 to 599; any other becomes 500.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { 500 };
        let title = title(status);
        let code = title.to_ascii_lowercase().replace(' ', "-").into();
        Self { kind: "about:blank", title, status, code, detail: detail.into(), explain: None, causes: Vec::new() }
    }

    /// A problem that the SDK itself finds in a request, with a code of the host's.
    pub(super) fn of_request(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { explain: Some(format!("bireme explain {code}").into()), ..Self::new(status, detail).with_code(code) }
    }

    /// Sets the code that programs match on; by default it follows from the status.
    ///
    /// ```
    /// let problem = bireme_sdk::web::Problem::new(409, "the name is taken").with_code("name-taken");
    /// assert_eq!(problem.status(), 409);
    /// ```
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into().into();
        self.explain = None;
        self
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the sentence for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("it holds strings and numbers");
        Response::new(self.status).header("content-type", "application/problem+json").body(body)
    }
}

impl<E: Into<Failure>> From<E> for Problem {
    fn from(error: E) -> Self {
        let failure: Failure = error.into();
        let status = match failure.code {
            Code::InvalidInput => 400,
            Code::UnknownFunction => 404,
            Code::InputTooLarge => 413,
            Code::Crashed | Code::MemoryLimit | Code::OutputTooLarge => 502,
            Code::Overloaded | Code::Cancelled | Code::Unavailable => 503,
            Code::Timeout => 504,
            Code::DepthExceeded => 508,
            Code::Failed | Code::Terminal => 500,
        };
        // The function's own errors have nothing more to say.
        let is_own = matches!(failure.code, Code::Failed | Code::Terminal);
        let explain = (!is_own).then(|| format!("bireme explain {}", failure.code).into());
        let problem = Self::new(status, failure.message).with_code(failure.code.to_string());
        Self { explain, causes: failure.causes, ..problem }
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        508 => "Loop Detected",
        _ if status < 500 => "Client Error",
        _ => "Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_the_host_comes_with_the_command_that_explains_it() {
        let json = |problem: Problem| serde_json::to_value(problem).unwrap();
        let invalid = json(Problem::from(Failure::new(Code::InvalidInput, "expected a field `name`")));
        assert_eq!((&invalid["status"], &invalid["explain"]), (&400.into(), &"bireme explain invalid-input".into()));
        let own = Problem::from(Failure::terminal("no such ship"));
        assert_eq!(json(own).get("explain"), None);
        let chosen = Problem::from(Failure::new(Code::InvalidInput, "no")).with_code("name-taken");
        assert_eq!(json(chosen).get("explain"), None);
    }
}
