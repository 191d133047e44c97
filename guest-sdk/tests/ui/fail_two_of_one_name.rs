use bireme_sdk::prelude::*;

#[function]
fn scrape(url: String) -> String {
    url
}

#[function]
fn scrape(page: u32) -> u32 {
    page
}

fn main() {}
