//! Errors as RFC 9457 problem documents. The only place that turns a failure into a status.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::body::{ResponseBody, whole};
use crate::call::{Failure, FailureCode};

/// Seconds after which an overloaded host may be asked again.
const RETRY_AFTER_SECONDS: &str = "1";

/// An error on its way to a client.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable; programs match on it.
    pub code: &'static str,
    pub detail: String,
    pub causes: Vec<String>,
    pub allow: Option<&'static str>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), causes: Vec::new(), allow: None }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub fn method(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail) }
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
        if !self.causes.is_empty() {
            body["causes"] = json!(self.causes);
        }
        let mut response = Response::new(whole(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            FailureCode::InvalidInput => StatusCode::BAD_REQUEST,
            FailureCode::UnknownFunction => StatusCode::NOT_FOUND,
            FailureCode::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            // The function answered, with an error of its own.
            FailureCode::Failed | FailureCode::Terminal => StatusCode::INTERNAL_SERVER_ERROR,
            // The function did not answer as it should.
            FailureCode::Crashed | FailureCode::MemoryLimit | FailureCode::OutputTooLarge => StatusCode::BAD_GATEWAY,
            FailureCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
            FailureCode::DepthExceeded => StatusCode::LOOP_DETECTED,
            FailureCode::Overloaded | FailureCode::Cancelled | FailureCode::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self { causes: failure.causes, ..Self::new(status, failure.code.as_str(), failure.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_status_of_an_error() {
        for code in FailureCode::ALL {
            let problem = Problem::from(Failure::new(code, "x"));
            assert!(problem.status.is_client_error() || problem.status.is_server_error(), "{code}");
            assert_eq!(problem.code, code.as_str());
        }
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let response = Problem::from(Failure::new(FailureCode::Overloaded, "x")).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
