//! What each path answers.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{ResponseBody, whole};
use super::problem::Problem;
use crate::call::{JSON, Payload, Receipt};
use crate::codes::Code;
use crate::dispatch::{Call, Dispatcher, closest};
use crate::limits;

type Answer = Result<Response<ResponseBody>, Problem>;

/// The paths of one host.
pub struct Routes {
    dispatcher: Arc<Dispatcher>,
    /// Bytes that bodies may still take.
    bodies: Arc<Semaphore>,
}

impl Routes {
    pub fn new(dispatcher: Arc<Dispatcher>) -> Self {
        Self { dispatcher, bodies: Arc::new(Semaphore::new(limits::HTTP_BODIES_BYTES_MAX)) }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let answered = match check_host(&request).and_then(|()| check_origin(&request)) {
            Ok(()) => self.route(request).await,
            Err(problem) => Err(problem),
        };
        let mut response = answered.unwrap_or_else(Problem::into_response);
        // A function chooses its own media type; a browser shall not choose another.
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["healthz" | "readyz"] => get(&request, || Ok(text("ok\n"))),
            ["api", "v1", "apps"] | [""] => get(&request, || Ok(json_body(&apps(&self.dispatcher)))),
            ["api", "v1", "calls"] => get(&request, || Ok(json_body(&calls(&self.dispatcher)))),
            ["api", ..] => {
                let detail = format!("no `{path}` in the control API; it has /api/v1/apps and /api/v1/calls");
                Err(Problem::not_found(detail))
            }
            [app, function] => self.call(app, function, request).await,
            _ => Err(Problem::not_found(format!("nothing at `{path}`; functions are at /APP/FUNCTION"))),
        }
    }

    async fn call(&self, app: &str, function: &str, request: Request<Incoming>) -> Answer {
        let dispatcher = &self.dispatcher;
        let Some(program) = dispatcher.program(app) else {
            let programs = dispatcher.programs();
            let names: Vec<&str> = programs.iter().map(|program| program.name().as_str()).collect();
            let hint = match closest(app, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("deployed: {}", names.join(", ")),
            };
            return Err(Problem::not_found(format!("no app `{app}` is deployed; {hint}")));
        };
        let function = Dispatcher::find(&program, function)?;
        if request.method() != Method::POST {
            return Err(Problem::method("POST"));
        }
        let bytes_max = program.functions()[function].limits.input_bytes_max;
        let _room = self.room(&request, bytes_max)?;
        let input = read_input(request, bytes_max).await?;
        let version = program.version().clone();
        let finished = dispatcher.call(Call { program, function, input, depth: 0, deadline_max: None }).await;

        let mut response = match finished.result {
            Ok(output) => {
                let content_type = HeaderValue::from_str(&output.content_type)
                    .unwrap_or(HeaderValue::from_static("application/octet-stream"));
                let mut response = Response::new(whole(output.data));
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                response
            }
            Err(failure) => Problem::from(failure).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert("bireme-receipt", receipt_header(&finished.receipt));
        for (name, value) in [("bireme-call", finished.id.to_string()), ("bireme-version", version.to_string())] {
            headers.insert(name, HeaderValue::from_str(&value).expect("ids are ASCII"));
        }
        Ok(response)
    }

    /// Takes room for a body, by its length or, without one, by the most that it may have.
    fn room(&self, request: &Request<Incoming>, bytes_max: u64) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = content_length(request.headers()).unwrap_or(bytes_max).min(bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bodies.clone().try_acquire_many_owned(bytes).map_err(|_| {
            let detail = "the host holds as many request bodies as it may; try again later";
            Problem::new(Code::Overloaded, detail)
        })
    }
}

/// The length that a request's head gives its body.
fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body within the function's input limit and the host's patience.
async fn read_input(request: Request<Incoming>, bytes_max: u64) -> Result<Payload, Problem> {
    let too_large = || {
        let detail = format!("the body is over the function's input limit of {bytes_max} bytes");
        Problem::new(Code::InputTooLarge, detail)
    };
    let (head, body) = request.into_parts();
    let content_type = match head.headers.get(header::CONTENT_TYPE) {
        None => JSON.to_owned(),
        Some(value) => {
            let value = value.to_str().unwrap_or_default();
            let essence = value.split(';').next().unwrap_or_default().trim();
            // A form is what `curl -d` says when it is not told otherwise; the body is judged by the function's decoder.
            if !matches!(essence, JSON | "text/json" | "application/x-www-form-urlencoded" | "")
                && !essence.ends_with("+json")
            {
                let detail = format!("functions take JSON, not `{essence}`; send `content-type: {JSON}`");
                return Err(Problem::new(Code::UnsupportedMediaType, detail));
            }
            JSON.to_owned()
        }
    };
    // Refused by its length before a byte is read.
    if content_length(&head.headers).is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let limited = Limited::new(body, usize::try_from(bytes_max).unwrap_or(usize::MAX));
    match tokio::time::timeout(limits::HTTP_BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(collected)) => Ok(Payload { content_type, data: collected.to_bytes() }),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(Code::BodyUnreadable, format!("the body could not be read: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {:?}", limits::HTTP_BODY_TIMEOUT);
            Err(Problem::new(Code::BodyTimeout, detail))
        }
    }
}

/// Wants exactly one `Host`, and on a loopback listener one that is loopback: a page in the user's browser whose name was
/// rebound to this machine must not reach the functions.
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let bad = |detail: &str| Err(Problem::new(Code::BadHost, detail));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return bad("a request has exactly one `host` header");
    };
    let Ok(authority) = host.to_str().unwrap_or_default().parse::<http::uri::Authority>() else {
        return bad("the `host` header is no host");
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback {
        Ok(())
    } else {
        Err(Problem::new(Code::ForeignHost, "this host answers to `localhost` and loopback addresses only"))
    }
}

/// Refuses what a page of another site makes a browser send: such a request needs no leave of ours to be sent, and carries a
/// loopback `Host`. Programs send none of these headers.
fn check_origin<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(|origin| origin == host)
    };
    let foreign = headers.get(header::ORIGIN).is_some_and(|origin| !is_own(origin));
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if foreign || cross_site {
        let detail = "pages of other origins cannot call this host";
        return Err(Problem::new(Code::ForeignOrigin, detail));
    }
    Ok(())
}

fn get<B>(request: &Request<B>, answer: impl FnOnce() -> Answer) -> Answer {
    if matches!(*request.method(), Method::GET | Method::HEAD) { answer() } else { Err(Problem::method("GET, HEAD")) }
}

fn text(body: &'static str) -> Response<ResponseBody> {
    Response::new(whole(body))
}

fn json_body(value: &serde_json::Value) -> Response<ResponseBody> {
    let mut response = Response::new(whole(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

fn receipt_header(receipt: &Receipt) -> HeaderValue {
    let json = serde_json::to_string(receipt).expect("a receipt has string keys only");
    HeaderValue::from_str(&json).expect("numbers and ASCII names only")
}

fn apps(dispatcher: &Dispatcher) -> serde_json::Value {
    let apps: Vec<_> = dispatcher
        .programs()
        .iter()
        .map(|program| {
            let functions: Vec<_> = program
                .metadata()
                .functions
                .iter()
                .map(|function| json!({ "name": function.name, "doc": function.doc, "route": format!("POST /{}/{}", program.name(), function.name) }))
                .collect();
            json!({ "name": program.name(), "version": program.version(), "functions": functions })
        })
        .collect();
    json!({ "apps": apps })
}

fn calls(dispatcher: &Dispatcher) -> serde_json::Value {
    let calls: Vec<_> = dispatcher
        .live()
        .iter()
        .map(|(id, call)| {
            json!({
                "id": id,
                "function": call.function.to_string(),
                "depth": call.depth,
                "since_ms": u64::try_from(call.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        })
        .collect();
    json!({ "calls": calls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &[&str]) -> Option<u16> {
        let mut request = Request::new(());
        for host in hosts {
            request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        check_host(&request).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_our_own_pages_are_answered() {
        let check = |origin: &str, site: Option<&str>| {
            let mut request = Request::new(());
            let headers = request.headers_mut();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_str(site).unwrap());
            }
            check_origin(&request).is_ok()
        };
        assert!(check("http://127.0.0.1:8080", Some("same-origin")));
        assert!(!check("http://127.0.0.1:8080", Some("cross-site")));
        for foreign in ["null", "http://127.0.0.1:9090", "https://127.0.0.1:8080", "http://evil.example"] {
            assert!(!check(foreign, None), "{foreign}");
        }
    }

    #[test]
    fn only_one_loopback_host_is_answered() {
        for good in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"] {
            assert_eq!(check(&[good]), None, "{good}");
        }
        assert_eq!(check(&[]), Some(400));
        assert_eq!(check(&["localhost", "localhost"]), Some(400));
        assert_eq!(check(&["a b"]), Some(400));
        for foreign in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
            assert_eq!(check(&[foreign]), Some(421), "{foreign}");
        }
    }
}
