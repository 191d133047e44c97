//! Fetches pages and takes them apart, from the origins in `outbound` and no other. Try it, from this
//! folder: `bireme run .::title --url https://example.com/`,
//! `bireme run .::titles --urls '["https://example.com/"]'`, and `cargo test`.

use bireme_sdk::prelude::*;

/// Fetches one page and returns its title.
#[function(timeout = "10s", memory = "64MiB", retries = 2, outbound = ["https://example.com"])]
pub fn title(url: String) -> Result<String> {
    let page = http::get(&url).send()?.error_for_status()?.text()?;
    let rest = page.split_once("<title>").context("it has no title")?.1;
    let title = rest.split_once("</title>").context("it is cut off")?.0;
    Ok(title.trim().to_owned())
}

/// Fetches many pages, each in a sandbox of its own; those that fail are left out.
#[function(timeout = "5m")]
pub fn titles(urls: Vec<String>) -> Result<Vec<String>> {
    Ok(title::map(urls).keep_going().collect())
}

#[test]
fn a_page_has_a_title() {
    let answer = |_: &http::Request| Ok(http::Response::new(200, "<title>Oars </title>"));
    let _http = bireme_sdk::testing::with_http(answer);
    assert_eq!(title("https://example.com/".to_owned()).unwrap(), "Oars");
    let urls = vec!["https://example.com/a".to_owned()];
    assert_eq!(titles(urls).unwrap(), ["Oars"]);
}
