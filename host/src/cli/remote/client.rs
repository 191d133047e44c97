//! HTTP client of the control API.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::{Request, Response};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

use super::address::Address;
use super::{paths, socket_transport};
use crate::api::{self, ADDRESS_HEADER};
use crate::app::metadata::Metadata;
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::cli::global::{Global, SERVICE_DATA};
use crate::codes::Code;
use crate::settings::OperatorToken;

/// Default address of a host, without `--host` and without a control socket.
const DEFAULT: &str = "http://127.0.0.1:8080";
/// URL of requests over a socket: the host's name is looked at by the other side only.
const OVER_SOCKET: &str = "http://localhost";
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest response read into memory: the largest output of a function, and room for a problem document.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Blocking client of one host.
#[derive(Clone)]
pub(crate) struct Client {
    /// URL of the host's functions, for people.
    base: String,
    /// URL of requests.
    url: String,
    agent: Agent,
    /// Value of the `authorization` header for the control API.
    authorization: Option<String>,
}

/// Document of the host, with its JSON text for `--json`: the text also has what a newer host adds.
pub(crate) struct Answer<T> {
    /// One line.
    pub text: String,
    pub document: T,
}

impl<T> Answer<T> {
    /// Converts the document, with the same text.
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { text: self.text, document: convert(self.document) }
    }
}

/// Query parameters, in order.
pub(crate) type Query<'a> = &'a [(&'a str, String)];

impl Client {
    /// Makes a client of the address that was given, else of the host whose control socket answers, else of the usual
    /// address.
    pub(crate) fn new(address: &Address, global: &Global) -> Result<Self, Exit> {
        if let Some(host) = address.given() {
            return Self::over_tcp(host, global);
        }
        let found = global.control_sockets()?.into_iter().find_map(Self::over_socket);
        found.map_or_else(|| Self::over_tcp(DEFAULT, global), Ok)
    }

    /// Returns a client of the host that answers at the socket, which knows this process by its user: no token is sent,
    /// so a wrong one in the environment is of no consequence.
    fn over_socket(path: PathBuf) -> Option<Self> {
        let agent = socket_transport::agent(config().proxy(None).build(), path);
        let mut health = agent.get(format!("{OVER_SOCKET}/healthz")).call().ok()?;
        // To its end, so that the next request takes the same connection.
        let _ = health.body_mut().read_to_vec();
        let address = health.headers().get(ADDRESS_HEADER).and_then(|value| value.to_str().ok());
        let base = address.map_or_else(|| OVER_SOCKET.to_owned(), |address| format!("http://{address}"));
        Some(Self { base, url: OVER_SOCKET.to_owned(), agent, authorization: None })
    }

    /// The token goes to hosts of this machine; to another one only if the environment names it.
    fn over_tcp(host: &str, global: &Global) -> Result<Self, Exit> {
        let base = host.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let url = url::Url::parse(&base).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            return Err(Exit::usage(format!("`{host}` is no address of a host; for example {DEFAULT}")));
        };
        let mut config = config();
        // A proxy cannot reach this machine's loopback.
        let is_loopback = url.host_str().is_some_and(is_loopback);
        if is_loopback {
            config = config.proxy(None);
        }
        let token = if is_loopback { global.token()? } else { OperatorToken::of_environment()? };
        let authorization = token.map(|token| format!("Bearer {}", token.expose()));
        Ok(Self { url: base.clone(), base, agent: config.build().new_agent(), authorization })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request without a body; a non-2xx status becomes an `Err`.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: Query<'_>,
    ) -> Result<Answer<T>, Exit> {
        let request = self.request(method, path, query).body(()).map_err(|error| self.malformed(&error))?;
        answer(self.agent.run(request).map_err(|error| self.unreachable(&error))?)
    }

    /// Sends a POST with a body; any status is `Ok`.
    pub(crate) fn post(&self, path: &str, query: Query<'_>, kind: &str, body: &[u8]) -> Result<Response<Body>, Exit> {
        self.post_with(path, query, &[], kind, body)
    }

    /// Sends a POST with a body and more headers; any status is `Ok`.
    pub(crate) fn post_with(
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

    /// Sends a PUT with bytes; a non-2xx status becomes an `Err`.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        body: &[u8],
    ) -> Result<Answer<T>, Exit> {
        let request = self.request("PUT", path, query).header("content-type", "application/octet-stream");
        let request = request.body(body).map_err(|error| self.malformed(&error))?;
        answer(self.agent.run(request).map_err(|error| self.unreachable(&error))?)
    }

    /// Fetches the metadata of a deployed app.
    pub(crate) fn metadata(&self, app: &str) -> Result<Metadata, Exit> {
        let description: Answer<api::AppDescription> = self.send("GET", &paths::app(app, "")?, &[])?;
        Ok(description.document.metadata)
    }

    /// Fetches raw bytes and their media type.
    pub(crate) fn bytes_of(&self, path: &str) -> Result<Payload, Exit> {
        let request = self.request("GET", path, &[]).body(()).map_err(|error| self.malformed(&error))?;
        let response = self.success(self.agent.run(request))?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Ok(Payload { content_type, data: bytes(response)?.into() })
    }

    /// Opens a streamed response.
    pub(crate) fn stream(&self, path: &str, query: Query<'_>) -> Result<impl Read + use<>, Exit> {
        let request = self.request("GET", path, query).body(()).map_err(|error| self.malformed(&error))?;
        let response = self.success(self.agent.run(request))?;
        Ok(response.into_body().into_reader())
    }

    /// Opens a feed of events, behind the one with the id `last`.
    pub(crate) fn feed(&self, path: &str, query: Query<'_>, last: Option<&str>) -> Result<impl Read + use<>, Exit> {
        let mut request = self.request("GET", path, query);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(()).map_err(|error| self.malformed(&error))?;
        let response = self.success(self.agent.run(request))?;
        Ok(response.into_body().into_reader())
    }

    fn request(&self, method: &str, path: &str, query: Query<'_>) -> ureq::http::request::Builder {
        let mut url = format!("{}{path}", self.url);
        if !query.is_empty() {
            let pairs = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            url = format!("{url}?{pairs}");
        }
        let request = Request::builder().method(method).uri(url);
        match &self.authorization {
            // A web function would see it.
            Some(authorization) if path.starts_with("/api/") => request.header("authorization", authorization),
            _ => request,
        }
    }

    fn success(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Exit> {
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(problem(response)) }
    }

    fn unreachable(&self, error: &ureq::Error) -> Exit {
        let exit = Exit::new(Code::NoHost, format!("no host answers at {}: {error}", self.base));
        exit.hint(
            "start one with `bireme serve`, or name another by its data directory with --data DIR, or with --host URL",
        )
    }

    fn malformed(&self, error: &ureq::http::Error) -> Exit {
        Exit::usage(format!("no request can be made to {}: {error}", self.base))
    }
}

/// Reads a response as a document; a non-2xx status becomes an `Err`.
pub(crate) fn answer<T: DeserializeOwned>(response: Response<Body>) -> Result<Answer<T>, Exit> {
    if !response.status().is_success() {
        return Err(problem(response));
    }
    parse(bytes(response)?)
}

fn parse<T: DeserializeOwned>(mut text: Vec<u8>) -> Result<Answer<T>, Exit> {
    // An output has the line ends that its function wrote. They stand between tokens, where a space does as well.
    text.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    let document = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(text).map_err(|error| unreadable(&error))?;
    Ok(Answer { text, document })
}

/// Error of an answer that is no document of the control API.
pub(crate) fn unreadable(error: &dyn std::error::Error) -> Exit {
    Exit::new(
        Code::BadOutput,
        format!("the host's answer cannot be read ({error}); is it a bireme host of this version?"),
    )
}

/// Reads a response as bytes.
pub(crate) fn bytes(response: Response<Body>) -> Result<Vec<u8>, Exit> {
    let mut body = response.into_body();
    let read = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    read.map_err(|error| Exit::new(Code::NoHost, format!("the host's answer broke off: {error}")))
}

/// Reads a problem document (RFC 9457) as the error of the command.
pub(crate) fn problem(response: Response<Body>) -> Exit {
    match problem_document(response) {
        Ok((code, problem)) => {
            let exit = Exit { causes: problem.causes, ..Exit::new(code, problem.detail) };
            if code == Code::Unauthorized { exit.hint(unauthorized()) } else { exit }
        }
        Err(exit) => exit,
    }
}

/// Next step where a host answers that was started over another data directory.
fn unauthorized() -> String {
    format!(
        "name the host's data directory with --data DIR, or its token in BIREME_TOKEN; the data directory of the \
         packages' service is `{SERVICE_DATA}`, which `sudo` may read: sudo bireme --data {SERVICE_DATA} …"
    )
}

fn config() -> ConfigBuilder<AgentScope> {
    Config::builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("bireme/", env!("CARGO_PKG_VERSION")))
}

/// Reads a problem document and its code; any other body means that no bireme host answers.
pub(crate) fn problem_document(response: Response<Body>) -> Result<(Code, api::Problem), Exit> {
    let status = response.status();
    let problem: Option<api::Problem> = serde_json::from_slice(&bytes(response)?).ok();
    problem
        .and_then(|problem| Some((Code::find(&problem.code)?, problem)))
        .ok_or_else(|| Exit::new(Code::NoHost, format!("what answers is no bireme host of this version: {status}")))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_what_its_type_does_not_know_and_is_one_line() {
        let answer: Answer<api::InputsAccepted> = parse(b"{\"accepted\": 3,\r\n \"newer\": [1]}".to_vec()).unwrap();
        assert_eq!(answer.document.accepted, 3);
        assert_eq!(answer.text, "{\"accepted\": 3,   \"newer\": [1]}");
    }

    #[test]
    fn an_answer_of_something_else_says_so() {
        for text in ["<html>", "[]", "{\"accepted\": -1}"] {
            let exit = parse::<api::InputsAccepted>(text.into()).err().unwrap();
            assert_eq!(exit.code, Code::BadOutput);
            assert!(exit.message.ends_with("is it a bireme host of this version?"), "{}", exit.message);
        }
    }
}
