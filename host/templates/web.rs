//! Answers HTTP requests: a page with a form, and the same as JSON. Try it, from this folder: `bireme serve .`, then
//! open http://127.0.0.1:8080/APP/ in a browser (APP is this app's name), and `cargo test`.

use bireme_sdk::prelude::*;
use bireme_sdk::web::{Html, Json, escape};

#[derive(Serialize, Deserialize, JsonSchema, Debug, PartialEq)]
pub struct Greeting {
    text: String,
    letters: usize,
}

/// Greets somebody, as JSON; `name` is a part of the path.
#[web(route = "GET /hello/{name}")]
pub fn hello(name: String) -> Json<Greeting> {
    Json(Greeting { text: format!("hello, {name}"), letters: name.chars().count() })
}

/// The page; `name` comes from its form, through the query.
#[web(route = "GET /", timeout = "1s")]
pub fn home(name: Option<String>) -> Html<String> {
    let greeting = name.map(|name| hello(name).0.text).unwrap_or_default();
    Html(format!(
        "<!doctype html><title>hello</title><h1>{}</h1>
         <form><input name=name placeholder='your name' autofocus> <button>Greet</button></form>",
        escape(&greeting)
    ))
}

#[test]
fn the_page_greets_and_so_does_the_route() {
    let page = bireme_sdk::testing::web("GET", "/?name=%3CAda%3E").send();
    assert!(page.text().unwrap().contains("<h1>hello, &lt;Ada&gt;</h1>"));
    let json = bireme_sdk::testing::web("GET", "/hello/Ada").send();
    assert_eq!(json.json::<Greeting>().unwrap().letters, 3);
}
