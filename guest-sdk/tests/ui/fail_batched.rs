use bireme_sdk::prelude::*;

#[function(batched)]
fn no_parts(inputs: Vec<u32>) -> Vec<u32> {
    inputs
}

#[function(batched(max_size = 64))]
fn no_wait(inputs: Vec<u32>) -> Vec<u32> {
    inputs
}

#[function(batched(max_size = 0, wait = "1s"))]
fn no_size(inputs: Vec<u32>) -> Vec<u32> {
    inputs
}

#[function(batched(max_sise = 64, wait = "1s"))]
fn typo(inputs: Vec<u32>) -> Vec<u32> {
    inputs
}

#[function(batched(max_size = 64, wait = "1m"))]
fn waits_too_long(inputs: Vec<u32>) -> Vec<u32> {
    inputs
}

#[function(batched(max_size = 64, wait = "1s"))]
fn single(input: u32) -> u32 {
    input
}

#[function(batched(max_size = 64, wait = "1s"))]
fn two(inputs: Vec<u32>, others: Vec<u32>) -> Vec<u32> {
    drop(others);
    inputs
}

#[function(batched(max_size = 64, wait = "1s"))]
fn sum(inputs: Vec<u32>) -> Result<u32> {
    Ok(inputs.iter().sum())
}

#[function(batched(max_size = 64, wait = "1s"), schedule = period("15m"))]
fn scheduled(inputs: Vec<Option<u32>>) -> Vec<u32> {
    inputs.into_iter().flatten().collect()
}

#[function(batched(max_size = 64, wait = "1s"))]
fn raw(inputs: Vec<Bytes>) -> Vec<usize> {
    inputs.iter().map(|input| input.len()).collect()
}

#[web(route = "GET /", batched(max_size = 64, wait = "1s"))]
fn page() -> String {
    String::new()
}

fn main() {}
