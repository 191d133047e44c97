use bireme_sdk::prelude::*;

#[function(outbound = ["example.com", "https://example.com/path", "$", "https://*.example.com"])]
fn no_origins() {}

fn main() {}
