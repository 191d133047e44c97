use bireme_sdk::prelude::*;

#[function]
async fn waits() {}

#[function]
fn borrows(text: &str, items: Vec<&[u8]>) -> &'static str {
    let _ = (text, items);
    ""
}

#[function]
fn generic<T>(value: T) {
    drop(value);
}

#[function]
fn unnamed((a, b): (u8, u8)) -> u8 {
    a + b
}

#[function]
struct NoFunction;

fn main() {}
