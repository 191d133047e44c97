//! What each path answers.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::body::{RequestBodies, ResponseBody, whole};
use super::control::Control;
use super::metrics;
use super::oip::Oip;
use super::openai::OpenAi;
use super::problem::Problem;
use super::web;
use super::{Backend, LastCall};
use crate::call::{JSON, Payload, Principal, Receipt};
use crate::codes::Code;
use crate::dispatch::{Call, Dispatcher, Durable, FunctionRef, find_function};
use crate::failpoint;
use crate::ids::{CallId, Version};
use crate::inference::Inference;
use crate::tasks;

pub(super) type Answer = Result<Response<ResponseBody>, Problem>;

/// Media type of bytes of which nothing more is known.
const OCTET_STREAM: &str = "application/octet-stream";

/// The paths of one host.
pub struct Routes {
    dispatcher: Arc<Dispatcher>,
    control: Control,
    inference: Arc<Inference>,
    durable: Arc<Durable>,
    openai: OpenAi,
    oip: Oip,
    bodies: Arc<RequestBodies>,
    last_call: Option<Arc<LastCall>>,
}

impl Routes {
    /// `closing` turns true when the server is about to end.
    pub fn new(backend: Backend, closing: watch::Receiver<bool>) -> Self {
        let bodies = Arc::new(RequestBodies::new());
        let (dispatcher, last_call) = (backend.dispatcher.clone(), backend.last_call.clone());
        let inference = backend.inference.clone();
        let durable = backend.durable.clone();
        let openai = OpenAi::new(inference.clone(), bodies.clone());
        let oip = Oip::new(inference.clone(), bodies.clone());
        let control = Control::new(backend, bodies.clone(), closing);
        Self { dispatcher, last_call, control, inference, durable, openai, oip, bodies }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let answered = match check_host(&request).and_then(|()| check_origin(&request)) {
            Ok(()) => tasks::caught(self.route(request)).await.unwrap_or_else(|panic| {
                tracing::error!(panic, "the host met a bug of its own while it answered a request");
                Err(Problem::new(Code::Unavailable, "the host met a bug of its own while it answered this request"))
            }),
            Err(problem) => Err(problem),
        };
        let mut response = answered.unwrap_or_else(Problem::into_response);
        // A function chooses its own media type; a browser shall not choose another.
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        failpoint::panic_at("http.route");
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["healthz" | "readyz"] => get(&request, || Ok(text("ok\n"))),
            [""] => get(&request, || Ok(json_body(&self.control.apps()))),
            ["metrics"] => get(&request, || Ok(metrics::answer(&self.inference.stats(), self.durable.load()))),
            ["v1", rest @ ..] => Ok(self.openai.answer(rest, request).await),
            ["api", "v1", rest @ ..] => self.control.answer(rest, request).await,
            ["v2", rest @ ..] => Ok(self.oip.answer(rest, request).await),
            [app, ..] => self.of_app(app, request).await,
            [] => unreachable!("splitting yields one part at least"),
        }
    }

    /// Answers below `/{app}`: a function by its name, else a web function by its route.
    async fn of_app(&self, app: &str, request: Request<Incoming>) -> Answer {
        let dispatcher = &self.dispatcher;
        let program = dispatcher.program(app).ok_or_else(|| self.control.absent(app))?;
        let name = request.uri().path().trim_matches('/')[app.len()..].trim_start_matches('/').to_owned();
        let named = program.find(&name).filter(|function| function.route.is_none());
        match named {
            Some(function) if request.method() == Method::POST => self.call(function, request).await,
            _ if program.routes().next().is_some() => web::answer(dispatcher, program, &name, request).await,
            Some(_) => Err(Problem::method("POST")),
            None if name.is_empty() || name.contains('/') => {
                let detail = format!("nothing at `{}`; functions are at /APP/FUNCTION", request.uri().path());
                Err(Problem::not_found(detail))
            }
            None => Err(find_function(&program, &name).map(|_| ()).expect_err("nothing has the name").into()),
        }
    }

    async fn call(&self, function: FunctionRef, request: Request<Incoming>) -> Answer {
        let bytes_max = function.limits.input_bytes_max;
        let content_type = media_type(request.headers(), function.takes_bytes)?;
        let body = self.bodies.read(request, bytes_max, "the function's input limit").await?;
        let input = Payload { content_type, data: body.bytes.clone() };
        if let Some(last) = &self.last_call {
            last.keep(function.name.clone(), input.clone());
        }
        let version = function.version().clone();
        // Until there is access control, the callers of functions act for the operator.
        let call = Call::new(function, input, Principal::Operator);
        let finished = self.dispatcher.call(call).await;

        let mut response = match finished.result {
            Ok(output) => payload(output),
            Err(failure) => Problem::from(failure).into_response(),
        };
        stamp(response.headers_mut(), finished.id, &version, Some(&finished.receipt));
        Ok(response)
    }
}

/// Returns what a body is, or refuses it: JSON for most functions, anything else for those that take raw bytes.
pub(super) fn media_type(headers: &http::HeaderMap, takes_bytes: bool) -> Result<String, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Media types are case-insensitive.
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let refuse = |detail: String| Err(Problem::new(Code::UnsupportedMediaType, detail));
    if takes_bytes {
        return match essence.as_str() {
            "" => Ok(OCTET_STREAM.to_owned()),
            JSON => refuse(format!(
                "this function takes raw bytes, not JSON; send them with their own `content-type`, or as `{OCTET_STREAM}`"
            )),
            _ => Ok(given.to_owned()),
        };
    }
    // A form is what `curl -d` says when it is not told otherwise; the body is judged by the function's decoder.
    let is_json = matches!(essence.as_str(), JSON | "text/json" | "application/x-www-form-urlencoded" | "");
    if is_json || essence.ends_with("+json") {
        return Ok(JSON.to_owned());
    }
    refuse(format!("this function takes JSON, not `{essence}`; send `content-type: {JSON}`"))
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

/// First parts of the paths that are the operator's: the list of apps, metrics, the control API, the models.
const OPERATOR_PATHS: [&str; 5] = ["", "metrics", "api", "v1", "v2"];

/// Rejects cross-site browser requests (CSRF); CORS does not stop simple requests, and they carry a loopback `Host`. A
/// page of another port of this machine is `same-site`, and as foreign. Pages of this host may not use the operator's
/// paths either: each is some app's, and an app has only what it declares. Programs send none of these headers.
fn check_origin<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(|origin| origin == host)
    };
    let is_foreign_origin = headers.get(header::ORIGIN).is_some_and(|origin| !is_own(origin));
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if is_foreign_origin || site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        let detail = "pages of other origins cannot call this host";
        return Err(Problem::new(Code::ForeignOrigin, detail));
    }
    let is_page = headers.contains_key(header::ORIGIN) || site.is_some_and(|site| site != b"none");
    let first = request.uri().path().trim_matches('/').split('/').next().unwrap_or_default();
    if is_page && OPERATOR_PATHS.contains(&first) {
        let detail = "pages cannot use the list of apps, the control API, the models or the metrics";
        return Err(Problem::new(Code::ForeignOrigin, detail));
    }
    Ok(())
}

/// Answers a `GET` or `HEAD`.
pub(super) fn get<B>(request: &Request<B>, answer: impl FnOnce() -> Answer) -> Answer {
    if matches!(*request.method(), Method::GET | Method::HEAD) { answer() } else { Err(Problem::method("GET, HEAD")) }
}

fn text(body: &'static str) -> Response<ResponseBody> {
    Response::new(whole(body))
}

/// A response of bytes as they are.
pub(super) fn payload(payload: Payload) -> Response<ResponseBody> {
    let content_type = HeaderValue::from_str(&payload.content_type).unwrap_or(HeaderValue::from_static(OCTET_STREAM));
    let mut response = Response::new(whole(payload.data));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A response of JSON.
pub(super) fn json_body(value: &serde_json::Value) -> Response<ResponseBody> {
    let mut response = Response::new(whole(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// Says which call answered, of which version, and what it cost if that is known by now.
pub fn stamp(headers: &mut HeaderMap, call: CallId, version: &Version, receipt: Option<&Receipt>) {
    // Nobody else's word for it passes.
    headers.remove("bireme-receipt");
    if let Some(receipt) = receipt {
        headers.insert("bireme-receipt", receipt_header(receipt));
    }
    for (name, value) in [("bireme-call", call.to_string()), ("bireme-version", version.to_string())] {
        headers.insert(name, HeaderValue::from_str(&value).expect("ids are ASCII"));
    }
}

/// A receipt, as a header.
pub(super) fn receipt_header(receipt: &Receipt) -> HeaderValue {
    let json = serde_json::to_string(receipt).expect("a receipt has string keys only");
    HeaderValue::from_str(&json).expect("numbers and ASCII names only")
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
            let mut request = Request::builder().uri("/app/page").body(()).unwrap();
            let headers = request.headers_mut();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_str(site).unwrap());
            }
            check_origin(&request).is_ok()
        };
        assert!(check("http://127.0.0.1:8080", Some("same-origin")));
        for foreign in ["cross-site", "same-site", "Cross-Site", "else"] {
            assert!(!check("http://127.0.0.1:8080", Some(foreign)), "{foreign}");
        }
        for foreign in ["null", "http://127.0.0.1:9090", "https://127.0.0.1:8080", "http://evil.example"] {
            assert!(!check(foreign, None), "{foreign}");
        }
    }

    #[test]
    fn the_control_api_is_for_programs_and_for_whoever_types_its_address() {
        let check = |path: &str, name: &'static str, value: &str| {
            let mut request = Request::builder().uri(path).body(()).unwrap();
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
            check_origin(&request).is_ok()
        };
        assert!(!check("/api/v1/apps", "sec-fetch-site", "same-origin"));
        assert!(!check("/api/v1/apps", "origin", "http://127.0.0.1:8080"));
        for path in ["/v1/embeddings", "/v2/models", "//v1/models", "/v2", "/", "/?x", "/metrics", "/metrics/"] {
            assert!(!check(path, "sec-fetch-site", "same-origin"), "{path}");
            assert!(!check(path, "origin", "http://127.0.0.1:8080"), "{path}");
            assert!(check(path, "user-agent", "curl"), "{path}");
        }
        assert!(check("/api/v1/apps", "sec-fetch-site", "none"));
        assert!(check("/api/v1/apps", "user-agent", "curl"));
        assert!(check("/docs-search/search", "sec-fetch-site", "same-origin"));
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
