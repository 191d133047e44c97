//! Web functions: a few that keep the rules, and those that break them.

use std::io::Read;

use bireme_sdk::prelude::*;
use bireme_sdk::web::{Body, Form, Html, Json, Problem, Redirect, Request, Response, Stream};

/// Names what an answer is made of.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    name: String,
    count: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Newest,
    Oldest,
}

/// The front page.
#[web(route = "GET /")]
fn home() -> Html<&'static str> {
    Html("<h1>hostile</h1>")
}

#[web(route = "GET /orders/{id}")]
fn order(id: u32, sort: Option<Sort>, tag: Vec<String>) -> String {
    let sort = sort.map(|sort| serde_json::to_string(&sort).unwrap_or_default());
    format!("{id} {sort:?} {tag:?}")
}

#[web(route = "GET /orders/latest")]
fn latest() -> Redirect {
    Redirect::to("/orders/7")
}

#[web(route = "POST /orders")]
fn post_order(order: Json<Order>) -> Result<Json<Order>, Problem> {
    if order.0.count == 0 {
        return Err(Problem::new(422, "an order of nothing").with_code("empty-order"));
    }
    Ok(order)
}

#[web(route = "POST /forms")]
fn post_form(order: Form<Order>) -> String {
    format!("{} x {}", order.0.count, web::escape(&order.0.name))
}

#[web(route = "POST /upload")]
fn upload(body: Body) -> Result<String> {
    let mut buffer = vec![0; 64 << 10];
    let (mut body, mut sum, mut count) = (body, 0_u64, 0_u64);
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(format!("{count} {sum}")),
            len => {
                count += len as u64;
                sum += buffer[..len].iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
        }
    }
}

#[web(route = "GET /lines")]
fn lines(count: u64) -> Stream {
    Stream::of("text/plain", (0..count).map(|n| format!("line {n}\n")))
}

#[web(route = "GET /breaks")]
fn breaks() -> Stream {
    Stream::writer("text/plain", |out| {
        for _ in 0..1_000 {
            out.write_all(&[b'x'; 1_000])?;
        }
        bail!("the source dried up")
    })
}

#[web(route = "GET /loops", timeout = "200ms")]
fn loops() -> Stream {
    Stream::writer("text/plain", |out| {
        out.write_all(b"so far")?;
        #[allow(clippy::empty_loop, reason = "it is to be cut off")]
        loop {}
    })
}

#[web(route = "GET /greedy", memory = "8MiB")]
fn greedy() -> String {
    "x".repeat(64 << 20)
}

#[web(route = "GET /fetches", outbound = ["http://192.0.2.1"])]
fn fetches() -> Result<String> {
    Ok(http::get("http://192.0.2.2/").send()?.text()?)
}

#[web(route = "GET /bad-header")]
fn bad_header() -> Response {
    Response::new(200).header("x-bad", "a\r\nb")
}

#[web(route = "* /mirror/{*path}")]
fn mirror(request: Request) -> String {
    let (method, path, query) = (request.method(), request.path_value("path").unwrap_or_default(), request.query());
    format!("{method} {path} {query} {}", request.url("/x"))
}

#[web(route = "GET /whoami")]
fn web_whoami() -> Json<(String, String)> {
    let call = context::current();
    log::info!("asked on the web");
    Json((call.app, call.function))
}
