//! One HTTP request over `wasi:http`.
//!
//! Resources are dropped in the order that `wasi:http` demands: the stream before its body, the body before its
//! response.

use std::time::Duration;

use super::wasm::bindings::wasi::clocks::monotonic_clock;
use super::wasm::bindings::wasi::http::outgoing_handler;
use super::wasm::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use super::wasm::bindings::wasi::io::error::Error as IoError;
use super::wasm::bindings::wasi::io::poll::{self, Pollable};
use super::wasm::bindings::wasi::io::streams::StreamError;
use crate::http::{Error, Request, Response, Url};

/// Bytes read at a time.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Sends one request and reads its response to the end; the caller follows redirects.
pub(crate) fn send(request: &Request, url: &Url) -> Result<Response, Error> {
    let exchange = Exchange {
        request,
        timer: request.timeout.map(|timeout| monotonic_clock::subscribe_duration(nanoseconds(timeout))),
    };
    let outgoing = exchange.outgoing(url)?;
    let body = if request.body.is_empty() {
        None
    } else {
        Some(outgoing.body().map_err(|()| exchange.protocol("the request has no body to write to"))?)
    };
    let pending = outgoing_handler::handle(outgoing, Some(exchange.options())).map_err(|code| exchange.error(code))?;
    if let Some(body) = body {
        exchange.write(body)?;
    }
    let response = loop {
        match pending.get() {
            Some(Ok(Ok(response))) => break response,
            Some(Ok(Err(code))) => return Err(exchange.error(code)),
            Some(Err(())) => return Err(exchange.protocol("the response was taken before")),
            None => exchange.wait(&pending.subscribe())?,
        }
    };
    exchange.read(&response)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One request under way, which names its URL in every error.
struct Exchange<'a> {
    request: &'a Request,
    timer: Option<Pollable>,
}

impl Exchange<'_> {
    fn outgoing(&self, url: &Url) -> Result<OutgoingRequest, Error> {
        let headers = Fields::new();
        for (name, value) in &self.request.headers {
            headers.append(name, value).map_err(|error| self.invalid(format!("header `{name}`: {error}")))?;
        }
        let outgoing = OutgoingRequest::new(headers);
        let scheme = if url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
        outgoing
            .set_method(&method(&self.request.method))
            .map_err(|()| self.invalid(format!("`{}` is not a method", self.request.method)))?;
        outgoing
            .set_scheme(Some(&scheme))
            .map_err(|()| self.invalid("the host does not take its scheme".to_owned()))?;
        outgoing
            .set_authority(Some(url.authority()))
            .map_err(|()| self.invalid(format!("`{}` is not a host", url.authority())))?;
        outgoing
            .set_path_with_query(Some(&url.path_with_query()))
            .map_err(|()| self.invalid("its path or query is not valid".to_owned()))?;
        Ok(outgoing)
    }

    /// The host may ignore some options; the timer holds in any case.
    fn options(&self) -> RequestOptions {
        let options = RequestOptions::new();
        if let Some(timeout) = self.request.timeout.map(nanoseconds) {
            let _ = options.set_connect_timeout(Some(timeout));
            let _ = options.set_first_byte_timeout(Some(timeout));
            let _ = options.set_between_bytes_timeout(Some(timeout));
        }
        options
    }

    /// Sends the body, as fast as the peer takes it.
    fn write(&self, body: OutgoingBody) -> Result<(), Error> {
        let stream = body.write().map_err(|()| self.protocol("the body was taken before"))?;
        let mut rest = self.request.body.as_slice();
        let (mut is_flushing, mut is_flushed) = (false, false);
        loop {
            let permitted = stream.check_write().and_then(|permitted| {
                let len = usize::try_from(permitted).unwrap_or(usize::MAX).min(rest.len());
                if len > 0 {
                    stream.write(&rest[..len])?;
                    rest = &rest[len..];
                } else if permitted > 0 && !is_flushing {
                    stream.flush()?;
                    is_flushing = true;
                } else if permitted > 0 {
                    is_flushed = true;
                }
                Ok(permitted)
            });
            match permitted {
                Ok(_) if is_flushed => break,
                Ok(0) => self.wait(&stream.subscribe())?,
                Ok(_) => {}
                // The peer answered without reading all of it; the response explains why.
                Err(StreamError::Closed) => return Ok(()),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(self.stream_error(&error));
                }
            }
        }
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|code| self.error(code))
    }

    fn read(&self, response: &IncomingResponse) -> Result<Response, Error> {
        let mut bytes = Vec::new();
        let headers = response.headers().entries();
        let body = response.consume().map_err(|()| self.protocol("the body was taken before"))?;
        let stream = body.stream().map_err(|()| self.protocol("the body was taken before"))?;
        let mut ready: Option<Pollable> = None;
        loop {
            match stream.read(READ_BYTES_MAX) {
                Ok(chunk) if chunk.is_empty() => self.wait(ready.get_or_insert_with(|| stream.subscribe()))?,
                Ok(chunk) => {
                    if bytes.len() + chunk.len() > self.request.body_bytes_max {
                        return Err(Error::BodyTooLarge {
                            url: self.request.url.clone(),
                            limit_bytes: self.request.body_bytes_max as u64,
                        });
                    }
                    if bytes.is_empty() { bytes = chunk } else { bytes.extend_from_slice(&chunk) }
                }
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(self.stream_error(&error));
                }
            }
        }
        let mut result = Response::new(response.status(), bytes);
        result.headers = headers.into();
        Ok(result)
    }

    fn wait(&self, ready: &Pollable) -> Result<(), Error> {
        match &self.timer {
            None => ready.block(),
            Some(timer) => {
                if poll::poll(&[ready, timer]) == [1] {
                    return Err(self.timed_out("no complete answer within the request's own timeout"));
                }
            }
        }
        Ok(())
    }

    fn stream_error(&self, error: &IoError) -> Error {
        match http_error_code(error) {
            Some(code) => self.error(code),
            None => self.protocol(&error.to_debug_string()),
        }
    }

    fn url(&self) -> String {
        self.request.url.clone()
    }

    fn invalid(&self, reason: String) -> Error {
        Error::InvalidRequest { url: self.url(), reason }
    }

    fn protocol(&self, reason: &str) -> Error {
        Error::Protocol { url: self.url(), reason: reason.to_owned() }
    }

    fn timed_out(&self, reason: &str) -> Error {
        Error::Timeout { url: self.url(), reason: reason.to_owned() }
    }

    fn error(&self, code: ErrorCode) -> Error {
        let url = self.url();
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied { url },
            ErrorCode::DnsTimeout => Error::Dns { url, reason: "the resolver took too long".to_owned() },
            ErrorCode::DnsError(payload) => {
                Error::Dns { url, reason: payload.rcode.unwrap_or_else(|| "the resolver refused".to_owned()) }
            }
            ErrorCode::DestinationNotFound => Error::Dns { url, reason: "it does not exist".to_owned() },
            ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => {
                Error::Connect { url, reason: "it cannot be reached".to_owned() }
            }
            ErrorCode::ConnectionRefused => Error::Connect { url, reason: "the connection was refused".to_owned() },
            ErrorCode::ConnectionTimeout => self.timed_out("no connection"),
            ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => self.timed_out("no answer"),
            ErrorCode::ConnectionWriteTimeout => self.timed_out("it does not take the request"),
            ErrorCode::ConnectionLimitReached => Error::ConnectionLimit { url },
            ErrorCode::TlsProtocolError => Error::Tls { url, reason: "the handshake failed".to_owned() },
            ErrorCode::TlsCertificateError => Error::Tls { url, reason: "its certificate is not trusted".to_owned() },
            ErrorCode::TlsAlertReceived(payload) => {
                Error::Tls { url, reason: payload.alert_message.unwrap_or_else(|| "it sent an alert".to_owned()) }
            }
            ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestUriTooLong => Error::InvalidRequest { url, reason: code.to_string() },
            ErrorCode::HttpResponseBodySize(size) => {
                Error::BodyTooLarge { url, limit_bytes: size.unwrap_or(self.request.body_bytes_max as u64) }
            }
            ErrorCode::InternalError(Some(reason)) => Error::Protocol { url, reason },
            other => Error::Protocol { url, reason: format!("{other:?}") },
        }
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}
