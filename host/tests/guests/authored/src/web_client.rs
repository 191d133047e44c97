//! Requests to a site.

use std::collections::BTreeMap;
use std::time::Duration;

use bireme_sdk::prelude::*;

/// Fetches with retries; the status and the text.
#[function(outbound = ["$site"])]
fn get_with_retries(url: String, retries: u32) -> Result<(u16, String)> {
    let response = http::get(url).retries(retries).send()?;
    Ok((response.status, response.text()?))
}

/// Fetches with more retries than its time allows.
#[function(outbound = ["$site"], timeout = "20s")]
fn get_in_time(url: String) -> Result<u16> {
    Ok(http::get(url).retries(3).timeout(Duration::from_secs(10)).send()?.status)
}

/// Posts with retries, which a `POST` gets only when told.
#[function(outbound = ["$site"])]
fn post_with_retries(url: String, any_method: bool) -> Result<u16> {
    let request = http::post(url).json(&[1]).retries(2);
    Ok(if any_method { request.retry_any_method() } else { request }.send()?.status)
}

/// Fetches a body of at most `bytes_max`, decompressed.
#[function(outbound = ["$site"])]
fn get_text(url: String, bytes_max: usize) -> Result<String> {
    Ok(http::get(url).body_bytes_max(bytes_max).send()?.error_for_status()?.text()?)
}

/// Fetches a page as text, or whatever of it is text.
#[function(outbound = ["$site"], retries = 2)]
fn get_page(url: String, is_lossy: bool) -> Result<String> {
    let page = http::get(url).send()?.error_for_status()?;
    Ok(if is_lossy { page.text_lossy() } else { page.text()? })
}

/// Sends a form with a query and a token.
#[function(outbound = ["$site"])]
fn send_form(url: String, fields: BTreeMap<String, String>) -> Result<String> {
    Ok(http::post(url).query(&[("page", 2)]).bearer("token").form(&fields).send()?.error_for_status()?.text()?)
}

/// Fetches JSON of a certain shape.
#[function(outbound = ["$site"])]
fn get_scores(url: String) -> Result<BTreeMap<String, Vec<u8>>> {
    Ok(http::get(url).send()?.error_for_status()?.json()?)
}
