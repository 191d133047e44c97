//! Requests to the host: their heads, and bodies for models.

use std::time::Duration;

use bireme::fuzzing::app::{parse_route, route};
use bireme::fuzzing::http::{self as host, Target};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// A method, a URI and lines of headers, as hyper hands them over.
pub(super) fn head(input: &[u8]) -> Result<(), String> {
    let request = parsed(input)?;
    let (uri, headers) = (request.uri(), request.headers());

    let passed = host::passes(&request);
    if passed.is_ok() {
        let authority = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        assert!(is_loopback(authority), "`host: {authority}` is taken for this machine");
        let origin = headers.get("origin").and_then(|origin| origin.to_str().ok());
        let is_own = origin.is_none_or(|origin| origin == format!("http://{authority}"));
        assert!(is_own, "a page of `{origin:?}` may ask `{authority}`");
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        assert!(
            site != Some(b"cross-site") || headers.get("sec-fetch-mode").is_some(),
            "a page of another site may ask"
        );
    }

    let mut wait = None;
    match host::target(request.method(), uri)? {
        Target::Operation { path, needs_token, query, known } => {
            assert!(
                !needs_token || host::is_operators(uri.path()),
                "{} needs a token and is no operator's",
                uri.path()
            );
            assert!(query.iter().all(|(name, _)| known.contains(&name.as_str())), "an unknown parameter of {path}");
            wait = query.into_iter().rfind(|(name, _)| name == "wait").map(|(_, value)| value);
        }
        Target::App => assert!(!host::is_operators(uri.path()), "{} is an app's, and the operator's", uri.path()),
        Target::Refused => {}
    }
    routed(request.method(), uri);

    if let Some(wait) = host::wait(headers, wait.as_deref())? {
        assert!(wait <= Duration::from_secs(60), "a wait of {wait:?}");
    }
    let json = host::media_type(headers, false);
    assert!(json.as_ref().is_ok_and(|json| json == "application/json") || json.is_err(), "{json:?}");
    let bytes = host::media_type(headers, true);
    assert!(bytes.as_ref().is_ok_and(|bytes| !bytes.is_empty()) || bytes.is_err(), "{bytes:?}");
    let (key, _) = host::key_and_length(headers)?;
    assert!(
        key.is_none_or(|key| key.bytes().all(|byte| byte == b'\t' || (32..127).contains(&byte))),
        "a key that is not visible"
    );
    json.and(passed)
}

fn parsed(input: &[u8]) -> Result<Request<()>, String> {
    let mut lines = input.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let uri = Uri::try_from(words.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()).take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    Ok(request)
}

/// Returns whether an authority is this machine's, by the URL parser of browsers.
fn is_loopback(authority: &str) -> bool {
    let Ok(url) = url::Url::parse(&format!("http://{authority}/")) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Web functions: the request's own path is a route, unless a segment of it cannot be one.
fn routed(method: &Method, uri: &Uri) {
    let texts = ["GET /", "GET /{id}", "POST /{a}/new", "GET /{*rest}", "* /x/{b}"];
    let mut routes: Vec<_> = texts.iter().map(|text| parse_route(text).expect("a route")).collect();
    routes.extend(parse_route(&format!("GET {}", uri.path())));
    let found = route(&routes, method.as_str(), uri.path());
    if let Err(methods) = found {
        assert!(!methods.is_empty() && !methods.contains(&method.as_str()), "{method} is refused, for {methods:?}");
    }
}

/// Two bytes with the length of the JSON, and a body: of an inference request, then of the others.
pub(super) fn inference(input: &[u8]) -> Result<(), String> {
    let (length, body) = input.split_first_chunk::<2>().ok_or("no length")?;
    let length = usize::from(u16::from_le_bytes(*length));
    let header_length = (length != usize::from(u16::MAX)).then_some(length);
    let texts = host::embeddings(body);
    assert!(texts.as_ref().map_or(0, |texts| *texts) <= 2_048, "{texts:?} inputs");
    let ranked = host::rerank(body);
    let inferred = host::infer(body, header_length);
    if let Ok(tensors) = &inferred {
        for is_binary in [false, true] {
            // Numbers that are no JSON cannot be written as such.
            if let Ok((written, header_length)) = host::inferred(tensors.clone(), is_binary) {
                again(&written, header_length, tensors, is_binary);
            }
        }
    }
    inferred.map(drop).or(texts.map(drop)).or(ranked.map(drop))
}

/// The tensors of a response, as a request for the next model, are the same.
fn again(written: &[u8], header_length: Option<usize>, tensors: &[bireme::wire::Tensor], is_binary: bool) {
    let length = header_length.unwrap_or(written.len());
    let mut json: serde_json::Value = serde_json::from_slice(&written[..length]).expect("a response is JSON");
    json["inputs"] = json["outputs"].take();
    let mut body = serde_json::to_vec(&json).expect("string keys only");
    let length = body.len();
    body.extend_from_slice(&written[header_length.unwrap_or(written.len())..]);
    let read = host::infer(&body, header_length.map(|_| length));
    assert_eq!(read.as_deref(), Ok(tensors), "tensors that were read are others when written, binary: {is_binary}");
}
