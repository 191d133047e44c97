use bireme_sdk::prelude::*;

#[web(route = "get /pages")]
fn lower_case() {}

#[web(route = "GET /pages/{id}")]
fn another_name(page: u32) -> String {
    page.to_string()
}

#[web(route = "GET /{*rest}/more")]
fn in_the_middle(rest: String) -> String {
    rest
}

#[web(timeout = "1s", retries = 2)]
fn without_a_route() {}

#[function(route = "GET /")]
fn not_of_a_function() {}

fn main() {}
