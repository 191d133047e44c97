//! Web functions: route to the function, and the request as its guest sees it.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::guest_response::{GuestResponse, ResponseStart};
use super::handler::{HandlerResult, is_read};
use super::problem::Problem;
use super::respond::{ResponseBody, full_body, set_call_headers};
use super::web_body::WebBody;
use crate::app::route::{self, RouteMatch};
use crate::call::Principal;
use crate::codes::Code;
use crate::dispatch::{Dispatcher, WebCall};
use crate::sandbox::{Exchange, FunctionRef, Program};

/// Answers with the web function whose route matches; `name` is the path after the app, as a function would be called.
pub(crate) async fn answer(
    dispatcher: &Dispatcher,
    program: Arc<Program>,
    name: &str,
    request: Request<Incoming>,
) -> HandlerResult {
    let prefix = format!("/{}", program.name());
    let Some(path) = request.uri().path().strip_prefix(&prefix) else {
        return Err(Problem::not_found(format!("nothing at `{}`", request.uri().path())));
    };
    let segments = route::segments(path).ok_or_else(|| {
        let detail = format!("`{}` is no path: an escape in it is none, or not of UTF-8", request.uri().path());
        Problem::new(Code::BadPath, detail)
    })?;
    let function = match route::find(program.routes(), request.method().as_str(), &segments) {
        // Relative links of a page without the slash would lead out of the app.
        RouteMatch::To(_) if path.is_empty() && is_read(request.method()) => {
            return Ok(redirect_to_slash(request.uri()));
        }
        RouteMatch::To(function) => function,
        routed => return Err(no_route(&program, name, &request, routed)),
    };
    let has_body = request.method() != Method::HEAD;
    let (head, body) = strip_prefix(&prefix, request).into_parts();
    let (body, fault) = WebBody::new(body);
    let (exchange, answer) = Exchange::new(Request::from_parts(head, body));
    let version = program.version().clone();
    let principal = Principal::App(program.name().clone());
    let (id, serving) = dispatcher.serve(WebCall { function, exchange, principal });

    let start = GuestResponse::new((id, serving), answer, has_body).begin().await;
    // A guest fails over a request that broke off; the client's fault is the cause.
    let fault = if start.is_failure() { fault.take() } else { None };
    let (mut response, receipt) = match (start, fault) {
        (start, Some(problem)) => (problem.into_response(), start.receipt()),
        (ResponseStart::Failed { failure, receipt }, _) => (Problem::from(failure).into_response(), receipt),
        (ResponseStart::Streaming { head, body }, _) if has_body => {
            (Response::from_parts(head, body.boxed_unsync()), None)
        }
        // `HEAD` needs the head only; dropping the body ends the guest.
        (ResponseStart::Streaming { head, .. }, _) => (Response::from_parts(head, full_body("")), None),
        (ResponseStart::Complete { head, body, receipt }, _) => {
            let body = if has_body { body.into_iter().flatten().collect::<Vec<u8>>() } else { Vec::new() };
            (Response::from_parts(head, full_body(body)), Some(receipt))
        }
    };
    set_call_headers(response.headers_mut(), id, &version, receipt.as_ref());
    Ok(response)
}

fn redirect_to_slash(uri: &Uri) -> Response<ResponseBody> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(full_body(""));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = format!("{}/{query}", uri.path());
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).expect("it was a request's"));
    response
}

/// Problem of a request that no web function's route matches.
fn no_route(
    program: &Arc<Program>,
    name: &str,
    request: &Request<Incoming>,
    routed: RouteMatch<FunctionRef>,
) -> Problem {
    let named = program.find(name);
    match (named.as_ref().map(|function| function.route.as_ref()), routed) {
        (Some(None), RouteMatch::OtherMethods(methods)) => Problem::method(format!("{}, POST", methods.join(", "))),
        (Some(None), _) => Problem::method("POST"),
        // Called as a function by mistake.
        (Some(Some(route)), _) if *request.method() == Method::POST => {
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("HOST");
            let curl = route.curl(&format!("http://{host}"), program.name());
            let detail = format!("`{name}` is a web function, which is called by its route: {curl}");
            Problem::new(Code::WebFunction, detail)
        }
        (_, RouteMatch::OtherMethods(methods)) => Problem::method(methods.join(", ")),
        _ => Problem::not_found(format!("nothing of `{}` is at `{}`", program.name(), request.uri().path())),
    }
}

/// Returns the request as the guest sees it: without the app's prefix, which `x-forwarded-prefix` has.
fn strip_prefix(prefix: &str, request: Request<Incoming>) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    let whole = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = whole.strip_prefix(prefix).unwrap_or(whole);
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    head.uri = rest.parse().expect("a part of a path and its query is one");
    remove_hop_by_hop(&mut head.headers);
    head.headers.insert("x-forwarded-prefix", HeaderValue::from_str(prefix).expect("a name is ASCII"));
    Request::from_parts(head, body)
}

/// Removes hop-by-hop headers, those that `connection` names included.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];
    for name in named.into_iter().chain(always).chain([HeaderName::from_static("keep-alive")]) {
        headers.remove(name);
    }
}
