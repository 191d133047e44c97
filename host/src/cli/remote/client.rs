//! HTTP client of the control API.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use super::address::Address;
use super::paths;
use crate::app::metadata::Metadata;
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::codes::Code;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest response read into memory: the largest output of a function, and room for a problem document.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Blocking client of one host.
#[derive(Clone)]
pub struct Client {
    base: String,
    agent: Agent,
}

/// Query parameters, in order.
pub type Query<'a> = &'a [(&'a str, String)];

impl Client {
    pub fn new(address: &Address) -> Result<Self, Exit> {
        let base = address.host.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let url = url::Url::parse(&base).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            return Err(Exit::usage(format!(
                "`{}` is no address of a host; for example http://127.0.0.1:8080",
                address.host
            )));
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("bireme/", env!("CARGO_PKG_VERSION")));
        // A proxy cannot reach this machine's loopback.
        if url.host_str().is_some_and(is_loopback) {
            config = config.proxy(None);
        }
        Ok(Self { base, agent: config.build().new_agent() })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request without a body; a non-2xx status becomes an `Err`.
    pub fn send(&self, method: &str, path: &str, query: Query<'_>) -> Result<Value, Exit> {
        let request = self.request(method, path, query).body(()).map_err(|error| self.malformed(&error))?;
        json(self.answer(self.agent.run(request))?)
    }

    /// Sends a POST with a body; any status is `Ok`.
    pub fn post(&self, path: &str, query: Query<'_>, kind: &str, body: &[u8]) -> Result<Response<Body>, Exit> {
        self.post_with(path, query, &[], kind, body)
    }

    /// Sends a POST with a body and more headers; any status is `Ok`.
    pub fn post_with(
        &self,
        path: &str,
        query: Query<'_>,
        headers: &[(&str, &str)],
        kind: &str,
        body: &[u8],
    ) -> Result<Response<Body>, Exit> {
        let mut request = self.request("POST", path, query).header("content-type", kind);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| self.malformed(&error))?;
        self.agent.run(request).map_err(|error| self.unreachable(&error))
    }

    /// Fetches the metadata of a deployed app.
    pub fn metadata(&self, app: &str) -> Result<Metadata, Exit> {
        let mut about = self.send("GET", &paths::app(app, "")?, &[])?;
        serde_json::from_value(about["metadata"].take()).map_err(|error| {
            Exit::new(Code::BadOutput, format!("the host's description of `{app}` cannot be read ({error})"))
        })
    }

    /// Fetches raw bytes and their media type.
    pub fn bytes_of(&self, path: &str) -> Result<Payload, Exit> {
        let request = self.request("GET", path, &[]).body(()).map_err(|error| self.malformed(&error))?;
        let response = self.answer(self.agent.run(request))?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Ok(Payload { content_type, data: bytes(response)?.into() })
    }

    /// Opens a streamed response.
    pub fn stream(&self, path: &str, query: Query<'_>) -> Result<impl Read + use<>, Exit> {
        let request = self.request("GET", path, query).body(()).map_err(|error| self.malformed(&error))?;
        let response = self.answer(self.agent.run(request))?;
        Ok(response.into_body().into_reader())
    }

    fn request(&self, method: &str, path: &str, query: Query<'_>) -> ureq::http::request::Builder {
        let mut url = format!("{}{path}", self.base);
        if !query.is_empty() {
            let pairs = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            url = format!("{url}?{pairs}");
        }
        Request::builder().method(method).uri(url)
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Exit> {
        let response = answer.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(problem(response)) }
    }

    fn unreachable(&self, error: &ureq::Error) -> Exit {
        let exit = Exit::new(Code::NoHost, format!("no host answers at {}: {error}", self.base));
        exit.hint("start one with `bireme serve`, or name another with --host URL or BIREME_HOST")
    }

    fn malformed(&self, error: &ureq::http::Error) -> Exit {
        Exit::usage(format!("no request can be made to {}: {error}", self.base))
    }
}

/// Reads a JSON response.
pub fn json(response: Response<Body>) -> Result<Value, Exit> {
    let bytes = bytes(response)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Exit::new(
            Code::BadOutput,
            format!("the host's answer is not JSON ({error}); is it a bireme host of this version?"),
        )
    })
}

/// Reads a response as bytes.
pub fn bytes(response: Response<Body>) -> Result<Vec<u8>, Exit> {
    let mut body = response.into_body();
    let read = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    read.map_err(|error| Exit::new(Code::NoHost, format!("the host's answer broke off: {error}")))
}

/// Reads a problem document (RFC 9457); any other body means that no bireme host answers.
pub fn problem(response: Response<Body>) -> Exit {
    let status = response.status();
    let bytes = match bytes(response) {
        Ok(bytes) => bytes,
        Err(exit) => return exit,
    };
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let code = document["code"].as_str().and_then(Code::find);
    match (code, document["detail"].as_str()) {
        (Some(code), Some(detail)) => {
            let causes = document["causes"].as_array().into_iter().flatten();
            let causes = causes.filter_map(Value::as_str).map(str::to_owned).collect();
            Exit { causes, ..Exit::new(code, detail) }
        }
        _ => Exit::new(Code::NoHost, format!("what answers is no bireme host of this version: {status}")),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
