//! The smallest server of `wstd`.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let text = format!("wstd at {}\n", request.uri().path());
    Ok(Response::new(text.into()))
}
