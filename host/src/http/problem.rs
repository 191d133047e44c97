//! Errors as RFC 9457 problem documents. The statuses are those of the codes.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::body::{ResponseBody, whole};
use crate::call::Failure;
use crate::codes::Code;

/// Seconds after which an overloaded host may be asked again.
pub(super) const RETRY_AFTER_SECONDS: &str = "1";

/// Seconds after which a host with a full disk may be asked again: somebody has to make room first.
const RETRY_AFTER_FULL_SECONDS: &str = "30";

/// An error on its way to a client.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub detail: String,
    pub causes: Vec<String>,
    pub allow: Option<Box<str>>,
    /// A member of its own in the document. Few have one, so it is kept out of line.
    pub member: Option<Box<(&'static str, serde_json::Value)>>,
}

impl Problem {
    /// An error of this code, with the code's status.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        // A code that only commands give is a slip of ours where a client can see it.
        let status = code.http_status().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, detail: detail.into(), causes: Vec::new(), allow: None, member: None }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// `allow`: the methods, as the header of that name lists them.
    pub fn method(allow: impl Into<String>) -> Self {
        let allow = allow.into();
        let detail = format!("this path takes {allow}");
        Self { allow: Some(allow.into()), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// Returns the response, of type `application/problem+json`.
    pub fn into_response(self) -> Response<ResponseBody> {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if self.code.has_more_to_say() {
            body["explain"] = json!(format!("bireme explain {}", self.code));
        }
        if !self.causes.is_empty() {
            body["causes"] = json!(self.causes);
        }
        if let Some((name, value)) = self.member.map(|member| *member) {
            body[name] = value;
        }
        let mut response = Response::new(whole(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let retry_after = match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some(RETRY_AFTER_SECONDS),
            StatusCode::INSUFFICIENT_STORAGE => Some(RETRY_AFTER_FULL_SECONDS),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { causes: failure.causes, ..Self::new(failure.code.code(), failure.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::FailureCode;

    #[test]
    fn every_failure_has_a_status_of_its_own() {
        for code in FailureCode::ALL {
            let problem = Problem::from(Failure::new(code, "x"));
            assert_eq!(Some(problem.status.as_u16()), code.code().http_status(), "{code}");
        }
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let response = Problem::from(Failure::new(FailureCode::Overloaded, "x")).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = Problem::new(Code::DiskFull, "x").into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (507, &"30".parse().unwrap())
        );
    }
}
