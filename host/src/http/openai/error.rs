//! Errors of OpenAI's API. Its clients choose an exception by the status, and programs match on `code`.

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::respond::{ResponseBody, json_response};
use crate::inference::InferenceError;

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    pub message: String,
    /// Name of the invalid field.
    param: Option<String>,
    code: Option<&'static str>,
    allow: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>, code: Option<&'static str>) -> Self {
        Self { status, message: message.into(), param: None, code, allow: None }
    }

    /// 400 for an invalid request.
    pub(crate) fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, message, None);
        Self { param: param.map(str::to_owned), ..error }
    }

    /// 400 for a body that is not a request; the error has the field's path.
    pub(crate) fn body(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let path = error.path().to_string();
        let param = (path != ".").then_some(path.as_str());
        Self::invalid(error.to_string(), param)
    }

    pub(crate) fn method(method: &Method, allow: String) -> Self {
        let message = format!("this path takes {allow}, not {method}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message, Some("method_not_allowed")) }
    }

    pub(crate) fn path(path: &str) -> Self {
        let message = format!("no `{path}` here; there are /v1/embeddings, /v1/rerank and /v1/models");
        Self::new(StatusCode::NOT_FOUND, message, Some("unknown_url"))
    }

    pub(crate) fn unknown_model(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::NOT_FOUND, message, Some("model_not_found"));
        Self { param: Some("model".to_owned()), ..error }
    }

    pub(crate) fn models_unreadable() -> Self {
        let message = "the models on this host cannot be read; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message, Some("unavailable"))
    }

    /// Error of inference; `param` is the field with the inputs.
    pub(crate) fn of_model(error: InferenceError, param: &str) -> Self {
        let message = error.public_message();
        match error {
            InferenceError::UnknownModel { .. } => Self::unknown_model(message),
            InferenceError::BadInput { .. } => Self::invalid(message, Some(param)),
            InferenceError::TooLong { .. } => {
                Self { code: Some("context_length_exceeded"), ..Self::invalid(message, Some(param)) }
            }
            InferenceError::Overloaded { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, message, Some("rate_limit_exceeded"))
            }
            InferenceError::Deadline => Self::new(StatusCode::GATEWAY_TIMEOUT, message, Some("timeout")),
            InferenceError::DeviceLost { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, message, Some("device_lost"))
            }
            InferenceError::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message, Some("unavailable"))
            }
        }
    }

    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let error = json!({ "message": self.message, "type": kind, "param": self.param, "code": self.code });
        let mut response = json_response(&json!({ "error": error }));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        } else if self.status.is_server_error() {
            // These clients retry by themselves, and a request that was too slow or ended a worker would be so again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status, problem.detail, Some(problem.code.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_model_has_the_status_that_its_clients_know() {
        let model = || "m".to_owned();
        let reason = || "/home/somebody/model".to_owned();
        let check = |error: InferenceError, status: u16, code: Option<&str>| {
            let error = ApiError::of_model(error, "input");
            assert_eq!((error.status.as_u16(), error.code), (status, code), "{error:?}");
            error.into_response()
        };
        check(InferenceError::UnknownModel { model: model() }, 404, Some("model_not_found"));
        check(InferenceError::BadInput { reason: reason() }, 400, None);
        let too_long = InferenceError::TooLong { input: "text 0".to_owned(), tokens: 9, max_tokens: 8 };
        check(too_long, 400, Some("context_length_exceeded"));
        let overloaded = InferenceError::Overloaded { model: model(), waiting_rows: 7 };
        let response = check(overloaded, 429, Some("rate_limit_exceeded"));
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = check(InferenceError::Deadline, 504, Some("timeout"));
        assert_eq!(response.headers()["x-should-retry"], "false");
        check(InferenceError::DeviceLost { model: model(), losses: 2 }, 500, Some("device_lost"));
        let unavailable = InferenceError::Unavailable { model: model(), reason: reason() };
        assert!(!ApiError::of_model(unavailable.clone(), "input").message.contains("/home"));
        let response = check(unavailable, 503, Some("unavailable"));
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
