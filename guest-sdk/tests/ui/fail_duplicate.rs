use bireme_sdk::prelude::*;

#[function(timeout = "1s", timeout = "2s")]
fn twice() {}

#[function(outbound = ["$site", "$site"])]
fn listed_twice() {}

fn main() {}
