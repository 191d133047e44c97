use bireme_sdk::prelude::*;
use bireme_sdk::web::{Body, Form, Html, Json, Problem, Redirect, Request, Response, Stream};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Fields {
    name: String,
}

#[web(route = "GET /{one}/{*rest}", timeout = "1s", memory = "8MiB", concurrency = 2, outbound = ["$site"], models = ["m"])]
fn texts(one: u8, rest: String, sort: Option<bool>, tag: Vec<String>) -> Html<&'static str> {
    drop((one, rest, sort, tag));
    Html("")
}

#[web(route = "POST /json")]
fn json(fields: Json<Fields>) -> Result<Json<Fields>> {
    Ok(fields)
}

#[web(route = "PUT /form")]
fn form(fields: Form<Fields>) -> Result<String, Problem> {
    Ok(fields.0.name)
}

#[web(route = "PATCH /bytes")]
fn bytes(bytes: Bytes) -> Bytes {
    bytes
}

#[web(route = "DELETE /body")]
fn body(body: Body) -> Redirect {
    drop(body);
    Redirect::to("/")
}

#[web(route = "* /{*all}")]
fn whole(request: Request) -> Response {
    drop(request);
    Response::new(204)
}

#[web(route = "OPTIONS /stream")]
fn stream() -> Stream {
    Stream::of("text/plain", ["a"])
}

#[web(route = "HEAD /nothing")]
fn r#type() {}

fn main() {}
