//! `wasi:http/incoming-handler` by hand: good answers and every way to break one, each at a path of its own.

mod keyvalue;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct Stock;

#[allow(unsafe_code, reason = "generated")]
mod export {
    use super::Stock;
    wasip2::http::proxy::export!(Stock);
}

impl Guest for Stock {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.as_str() {
            "/echo" => echo(&request, answer),
            "/head" => head(&request, answer),
            // Without an answer.
            "/never" => {}
            "/drop/sleep" => {
                drop(answer);
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            "/drop/spin" => {
                drop(answer);
                let begin = std::time::Instant::now();
                while begin.elapsed() < std::time::Duration::from_millis(50) {}
            }
            "/error" => ResponseOutparam::set(answer, Err(ErrorCode::LoopDetected)),
            "/trap/before" => panic!("before the head"),
            "/trap/after" => {
                let _body = begin(answer, 200, &[]);
                panic!("after the head");
            }
            "/trap/between" => {
                let (_body, stream) = begin(answer, 200, &[]);
                write(&stream, &vec![b'x'; 300_000]);
                panic!("between two parts");
            }
            "/long" => {
                let (_body, stream) = begin(answer, 200, &[("content-length", "5")]);
                let _ = stream.blocking_write_and_flush(b"0123456789");
            }
            "/long/late" => {
                let (_body, stream) = begin(answer, 200, &[("content-length", "200000")]);
                write(&stream, &vec![b'x'; 190_000]);
                let _ = stream.blocking_write_and_flush(&[b'y'; 4_000]);
                let _ = stream.blocking_write_and_flush(&[b'y'; 4_000]);
                let _ = stream.blocking_write_and_flush(&[b'y'; 4_000]);
            }
            "/short" => {
                let (body, stream) = begin(answer, 200, &[("content-length", "10")]);
                write(&stream, b"01234");
                drop(stream);
                let _ = OutgoingBody::finish(body, None);
            }
            "/exact" => {
                let (body, stream) = begin(answer, 201, &[("content-length", "10"), ("x-own", "yes")]);
                write(&stream, b"0123456789");
                drop(stream);
                OutgoingBody::finish(body, None).unwrap();
            }
            "/flood" => {
                let (_body, stream) = begin(answer, 200, &[]);
                let part = vec![b'x'; 64 << 10];
                while write(&stream, &part) {}
            }
            "/hop" => {
                let refused = ["connection", "transfer-encoding", "keep-alive", "upgrade"]
                    .map(|name| Fields::new().append(name, b"x").is_err());
                finish(answer, format!("{refused:?}").as_bytes());
            }
            "/headers/enormous" => {
                let fields = Fields::new();
                fields.append("x-enormous", &vec![b'x'; 1 << 20]).unwrap();
            }
            "/headers/malformed" => {
                let fields = Fields::new();
                fields.append("x-bad", b"a\r\nset-cookie: b").unwrap();
            }
            "/headers/ours" => {
                let own = [("bireme-call", "mine"), ("bireme-version", "mine"), ("bireme-receipt", "mine")];
                let (body, stream) = begin(answer, 200, &own);
                drop(stream);
                OutgoingBody::finish(body, None).unwrap();
            }
            "/status" => {
                let (body, stream) = begin(answer, 101, &[]);
                drop(stream);
                OutgoingBody::finish(body, None).unwrap();
            }
            "/environment" => {
                let variables: Vec<String> =
                    std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
                finish(answer, variables.concat().as_bytes());
            }
            path if path.starts_with("/fetch/") => finish(answer, fetch(&path["/fetch/".len()..]).as_bytes()),
            path if path.starts_with("/draft") => finish(answer, keyvalue::answer(path).as_bytes()),
            path => finish(answer, format!("stock at {path}\n").as_bytes()),
        }
    }
}

/// Requests `/` of another server, and returns the status or the error.
fn fetch(authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    let response = match outgoing_handler::handle(request, None) {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => response.status().to_string(),
        other => format!("{other:?}"),
    }
}

fn begin(answer: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> (OutgoingBody, OutputStream) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).unwrap();
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    (body, stream)
}

/// Returns whether all of it was taken.
fn write(stream: &OutputStream, bytes: &[u8]) -> bool {
    bytes.chunks(4_096).all(|part| stream.blocking_write_and_flush(part).is_ok())
}

fn finish(answer: ResponseOutparam, bytes: &[u8]) {
    let (body, stream) = begin(answer, 200, &[("content-type", "text/plain")]);
    write(&stream, bytes);
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Sends the body back as it comes.
fn echo(request: &IncomingRequest, answer: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let (body, output) = begin(answer, 200, &[]);
    loop {
        match input.blocking_read(16 << 10) {
            Ok(part) => {
                if !write(&output, &part) {
                    return;
                }
            }
            Err(StreamError::Closed) => break,
            // Without an end: the request's broke off.
            Err(StreamError::LastOperationFailed(_)) => return,
        }
    }
    drop(output);
    OutgoingBody::finish(body, None).unwrap();
}

/// Tells what it sees of the request's head.
fn head(request: &IncomingRequest, answer: ResponseOutparam) {
    let mut text = format!("{:?} {}\n", request.method(), request.authority().unwrap_or_default());
    for (name, value) in request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    finish(answer, text.as_bytes());
}
