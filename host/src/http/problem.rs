//! Errors as RFC 9457 problem documents, with the status of their code.

use http::{HeaderValue, Response, StatusCode, header};

use super::respond::{ResponseBody, full_body};
use crate::api;
use crate::call::Failure;
use crate::codes::Code;

/// Seconds until an overloaded host may be tried again.
pub(super) const RETRY_AFTER_SECONDS: &str = "1";

/// Seconds until a host with a full disk may be tried again: an operator has to make room first.
const RETRY_AFTER_FULL_SECONDS: &str = "30";

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub detail: String,
    pub causes: Vec<String>,
    pub allow: Option<Box<str>>,
    /// Few problems have one, so it is boxed.
    pub member: Option<Box<Member>>,
}

/// Extension member of a document.
#[derive(Debug)]
pub(crate) enum Member {
    /// Capabilities that nobody accepted yet.
    Added(Vec<String>),
    /// Inputs that a map has.
    Accepted(u64),
}

impl Problem {
    /// Makes a problem with the code's status.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        // Only codes of the command line have no status; one of them here is a bug, and answered 500.
        let status = code.http_status().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, detail: detail.into(), causes: Vec::new(), allow: None, member: None }
    }

    /// Makes a problem of an error, with the errors behind it as its causes.
    pub(crate) fn with_causes(code: Code, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let detail = error.to_string();
        let causes = error.chain().skip(1).map(ToString::to_string).filter(|cause| *cause != detail).collect();
        Self { causes, ..Self::new(code, detail) }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// 405 with the `Allow` header.
    pub(crate) fn method(allow: impl Into<String>) -> Self {
        let allow = allow.into();
        let detail = format!("this path takes {allow}");
        Self { allow: Some(allow.into()), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// Converts to a response of type `application/problem+json`.
    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        let mut document = api::Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.as_str().to_owned(),
            detail: self.detail,
            explain: self.code.has_more_to_say().then(|| format!("bireme explain {}", self.code)),
            causes: self.causes,
            added: Vec::new(),
            accepted: None,
        };
        match self.member.map(|member| *member) {
            Some(Member::Added(added)) => document.added = added,
            Some(Member::Accepted(accepted)) => document.accepted = Some(accepted),
            None => {}
        }
        let mut response = Response::new(full_body(serde_json::to_vec(&document).expect("string keys only")));
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
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"bireme\""));
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
