use bireme_sdk::prelude::*;

struct Page {
    url: String,
}

#[derive(Deserialize, JsonSchema)]
struct Half {
    url: String,
}

#[function]
fn takes(page: Page) -> usize {
    page.url.len()
}

#[function]
fn gives(url: String) -> Half {
    Half { url }
}

fn main() {}
