//! One web request over `wasi:http/incoming-handler`.
//!
//! Resources are dropped in the order that `wasi:http` demands: a stream before its body, a body before its request.

use std::io::{self, Read, Write};

use super::wasm::bindings::wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use super::wasm::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::failure::Result;
use crate::http::Headers;
use crate::log;
use crate::web::{self, Body, Content, Problem, Request, Respond, Response};

/// Serves one request.
pub(crate) type Serve = fn(IncomingRequest, ResponseOutparam);

/// The server; only web functions name it.
pub(crate) const SERVE: Serve = serve;

fn serve(incoming: IncomingRequest, answer: ResponseOutparam) {
    let method = method(incoming.method());
    let is_head = method == "HEAD";
    let path = incoming.path_with_query().unwrap_or_else(|| "/".to_owned());
    let headers = Headers::from(incoming.headers().entries());
    let request = Request::new(method, &path, headers, body(&incoming));
    let response = web::answer(request);
    if let Err(failure) = send(response, answer, is_head) {
        log::error!("the answer was cut off: {failure}");
    }
    drop(incoming);
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    }
    .to_owned()
}

fn body(incoming: &IncomingRequest) -> Body {
    let reader = incoming.consume().and_then(|body| {
        let stream = body.stream()?;
        Ok(Reader { stream, _body: body })
    });
    match reader {
        Ok(reader) => Body::new(reader),
        Err(()) => Body::new(io::empty()),
    }
}

/// Reader of a streamed body.
struct Reader {
    stream: InputStream,
    _body: IncomingBody,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.stream.blocking_read(buffer.len() as u64) {
            Ok(part) => {
                buffer[..part.len()].copy_from_slice(&part);
                Ok(part.len())
            }
            Err(StreamError::Closed) => Ok(0),
            Err(StreamError::LastOperationFailed(error)) => Err(io::Error::other(error.to_debug_string())),
        }
    }
}

/// Sends the head, then streams the body.
fn send(response: Response, answer: ResponseOutparam, is_head: bool) -> Result<()> {
    let (outgoing, content) = match outgoing(response) {
        Ok(outgoing) => outgoing,
        Err(reason) => {
            let problem = Problem::new(500, format!("the app's answer cannot be sent: {reason}"));
            outgoing(problem.respond()).map_err(crate::Failure::failed)?
        }
    };
    if is_head {
        ResponseOutparam::set(answer, Ok(outgoing));
        return Ok(());
    }
    let body = outgoing.body().map_err(|()| crate::Failure::failed("the answer's `content-length` is none"))?;
    let stream = body.write().map_err(|()| crate::Failure::failed("the answer's body was taken before"))?;
    ResponseOutparam::set(answer, Ok(outgoing));
    let mut writer = Writer(stream);
    // An unfinished body counts as aborted, so a failed stream is never taken for a complete one.
    match content {
        Content::Whole(bytes) => writer.write_all(&bytes)?,
        Content::Stream(stream) => stream.write_to(&mut writer)?,
    }
    drop(writer);
    OutgoingBody::finish(body, None).map_err(|code| crate::Failure::failed(format!("{code:?}")))
}

fn outgoing(response: Response) -> Result<(OutgoingResponse, Content), String> {
    let headers = Fields::new();
    for (name, value) in &response.headers {
        headers.append(name, value).map_err(|error| format!("header `{name}`: {error}"))?;
    }
    let outgoing = OutgoingResponse::new(headers);
    outgoing.set_status_code(response.status).map_err(|()| format!("{} is no status", response.status))?;
    Ok((outgoing, response.content))
}

/// Writer of a body, as fast as the client takes it.
struct Writer(OutputStream);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            let permitted = usize::try_from(self.0.check_write().map_err(broken)?).unwrap_or(usize::MAX);
            if permitted > 0 {
                let part = &bytes[..permitted.min(bytes.len())];
                self.0.write(part).map_err(broken)?;
                return Ok(part.len());
            }
            self.0.subscribe().block();
        }
    }

    /// Every part has left already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"),
        StreamError::LastOperationFailed(error) => io::Error::other(error.to_debug_string()),
    }
}
