use bireme_sdk::prelude::*;

#[function(timeout = 10)]
fn a_number_for_a_time() {}

#[function(memory = "64MB")]
fn an_unknown_unit() {}

#[function(retries = "2")]
fn a_string_for_a_number() {}

#[function(models = "all-minilm-l6-v2")]
fn a_string_for_a_list() {}

#[function(concurrency)]
fn no_value() {}

#[function(retries(max = 3, backof = 2.0))]
fn a_typo_within() {}

#[function(secrets = ["API-KEY"])]
fn no_variable() {}

fn main() {}
