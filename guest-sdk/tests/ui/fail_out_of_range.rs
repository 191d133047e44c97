use bireme_sdk::prelude::*;

#[function(timeout = "25h", memory = "8GiB", retries = 101, concurrency = 0, tokens = 0)]
fn everything_at_once() {}

#[function(retries(max = 3, backoff = 11.0))]
fn too_steep() {}

#[function(schedule = period("100ms"))]
fn too_often() {}

fn main() {}
