//! Dispatch of a request to its web function.

use super::entry::{self, Entry};
use super::request::prefix;
use super::response::Content;
use super::route::{Values, segments};
use super::{Problem, Request, Response};

/// Answers one request with the app's own routes. The body of a response to `HEAD` is not for the client.
pub(crate) fn answer(mut request: Request) -> Response {
    let prefix = prefix(request.headers()).to_owned();
    let response = match find(request.method(), request.path()) {
        Ok((entry, parameters)) => {
            request.head.parameters = parameters;
            (entry.run)(&mut request)
        }
        Err(response) => response,
    };
    finish(response).below(&prefix)
}

fn find(method: &str, path: &str) -> Result<(&'static Entry, Values), Response> {
    let parts = segments(path).ok_or_else(|| {
        let detail = format!("`{path}` is no path: an escape in it is none, or not of UTF-8");
        Problem::of_request(400, "bad-path", detail).into_response()
    })?;
    let fitting: Vec<(&Entry, Values)> =
        entry::all().into_iter().filter_map(|entry| Some((entry, entry.route().fit(&parts)?))).collect();
    if fitting.is_empty() {
        return Err(Problem::of_request(404, "not-found", format!("nothing is at `{path}`")).into_response());
    }
    let mut methods: Vec<&str> = fitting.iter().map(|(entry, _)| entry.route().method).collect();
    let answering = fitting.into_iter().filter(|(entry, _)| entry.route().takes(method));
    answering.min_by(|(a, _), (b, _)| a.route().more_particular(&b.route(), method)).ok_or_else(|| {
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        methods.dedup();
        let allow = methods.join(", ");
        let problem = Problem::of_request(405, "method-not-allowed", format!("`{path}` takes {allow}"));
        problem.into_response().header("allow", allow)
    })
}

/// Adds headers that follow from the content.
fn finish(response: Response) -> Response {
    let has_body = !matches!(response.status, 204 | 304);
    match &response.content {
        Content::Whole(bytes) if has_body => {
            let length = bytes.len().to_string();
            response.default_header("content-length", &length)
        }
        _ => response,
    }
}
