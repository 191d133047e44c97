use bireme_sdk::prelude::*;
use bireme_sdk::web::{Body, Json};

struct Opaque;

#[web(route = "GET /body")]
fn body_of_get(numbers: Json<Vec<u32>>) -> String {
    numbers.0.len().to_string()
}

#[web(route = "POST /two")]
fn two_bodies(numbers: Json<Vec<u32>>, body: Body) -> String {
    drop(body);
    numbers.0.len().to_string()
}

#[web(route = "POST /{id}")]
fn body_of_path(id: Json<u32>) -> String {
    id.0.to_string()
}

#[web(route = "GET /opaque")]
fn opaque() -> Opaque {
    Opaque
}

fn main() {}
