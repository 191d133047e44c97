use bireme_sdk::prelude::*;

#[function(memroy = "64MiB")]
fn typo() {}

#[function(gpu = 1)]
fn unheard_of() {}

#[function(timeout = "1s", time_out = "1s")]
fn one_of_two() {}

fn main() {}
