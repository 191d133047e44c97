//! The SDK's HTTP client, from within the sandbox.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::site::{Site, Told};
use crate::support::{Guest, Output, bireme, function};

/// Runs one function with leave to go to the site.
fn run(site: &Site, name: &str, input: &Value) -> Output {
    let (target, input) = (function(Guest::Authored, name), input.to_string());
    bireme(&["run", "--secret", "API_KEY=x", "--grant", &site.grant(), &target, &input])
}

/// A site that answers with these statuses, one after another, the last one for ever.
fn site_of(statuses: &'static [u16], retry_after: &'static str) -> Site {
    let asked = AtomicUsize::new(0);
    Site::start(move |_| {
        let position = asked.fetch_add(1, Ordering::SeqCst).min(statuses.len() - 1);
        Told::new(statuses[position], format!("answer {}", position + 1)).with("retry-after", retry_after)
    })
}

#[test]
fn a_request_is_sent_again_as_often_as_was_said() {
    let site = site_of(&[503, 429, 200], "0");
    let output = run(&site, "get_with_retries", &json!({ "url": site.url("/"), "retries": 2 }));
    assert_eq!(output.json(), json!([200, "answer 3"]), "{output:#?}");
    assert_eq!(site.requests(), 3);
    // Without a wish from the server it waits by itself.
    let site = site_of(&[503, 200], "");
    let output = run(&site, "get_with_retries", &json!({ "url": site.url("/"), "retries": 2 }));
    assert_eq!(output.json(), json!([200, "answer 2"]), "{output:#?}");
    let site = site_of(&[500], "0");
    let output = run(&site, "get_with_retries", &json!({ "url": site.url("/"), "retries": 1 }));
    assert_eq!(output.json()[0], 500, "{output:#?}");
    assert_eq!(site.requests(), 2);
}

#[test]
fn a_wait_beyond_the_calls_time_is_not_begun() {
    let site = site_of(&[503], "3600");
    let output = run(&site, "get_in_time", &json!({ "url": site.url("/") }));
    assert_eq!(output.json(), json!(503), "{output:#?}");
    assert_eq!(site.requests(), 1);
}

#[test]
fn a_post_is_sent_again_only_when_told() {
    for (any_method, requests) in [(false, 1), (true, 2)] {
        let site = site_of(&[503, 201], "0");
        let output = run(&site, "post_with_retries", &json!({ "url": site.url("/"), "any_method": any_method }));
        assert_eq!(output.json(), json!(if any_method { 201 } else { 503 }), "{output:#?}");
        assert_eq!(site.requests(), requests);
    }
}

#[test]
fn compressed_answers_are_asked_for_and_decoded_up_to_a_limit() {
    let site = Site::start(|asked| {
        assert_eq!(asked.header("accept-encoding"), Some("gzip, br"));
        match asked.target.as_str() {
            "/br" => Told::new(200, b"\x0b\x02\x80hello\x03").with("content-encoding", "br"),
            "/broken" => Told::new(200, "junk").with("content-encoding", "gzip"),
            path => {
                let body = if path == "/bomb" { vec![b'x'; 4 << 20] } else { b"hello".to_vec() };
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&body).unwrap();
                Told::new(200, encoder.finish().unwrap()).with("content-encoding", "gzip")
            }
        }
    });
    let get = |path: &str| run(&site, "get_text", &json!({ "url": site.url(path), "bytes_max": 100_000 }));
    assert_eq!(get("/gzip").json(), "hello");
    assert_eq!(get("/br").json(), "hello");
    let output = get("/bomb");
    assert!(
        output.stderr.contains("error[terminal]") && output.stderr.contains("larger than 100000 bytes"),
        "{output:#?}"
    );
    let output = get("/broken");
    assert!(output.stderr.contains("cannot be read as `gzip`"), "{output:#?}");
}

#[test]
fn a_page_is_decoded_by_its_charset_and_bytes_that_are_no_text_fail_for_good() {
    let site = Site::start(|asked| match asked.target.as_str() {
        "/header" => Told::new(200, b"caf\xe9").with("content-type", "text/html; charset=ISO-8859-1"),
        "/meta" => Told::new(200, b"<meta charset=\"iso-8859-1\"><p>caf\xe9").with("content-type", "text/html"),
        _ => Told::new(200, b"caf\xe9").with("content-type", "text/plain"),
    });
    let get = |path: &str, is_lossy| run(&site, "get_page", &json!({ "url": site.url(path), "is_lossy": is_lossy }));
    assert_eq!(get("/header", false).json(), "café");
    assert_eq!(get("/meta", false).json(), "<meta charset=\"iso-8859-1\"><p>café");
    let output = get("/plain", false);
    assert!(output.stderr.contains("error[terminal]") && output.stderr.contains("`.text_lossy()`"), "{output:#?}");
    assert_eq!(site.requests(), 3, "a terminal failure is not retried");
    assert_eq!(get("/plain", true).json(), "caf\u{fffd}");
}

#[test]
fn forms_queries_and_tokens_arrive_as_they_should() {
    let site = Site::start(|asked| {
        let header = |name| asked.header(name).unwrap_or("none").to_owned();
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        let parts = [asked.method.clone(), asked.target.clone(), header("content-type"), header("authorization"), body];
        Told::new(200, parts.join("\n"))
    });
    let output =
        run(&site, "send_form", &json!({ "url": site.url("/form?a=1"), "fields": { "name": "Ada & Co", "x": "ä" } }));
    let text = output.json();
    assert_eq!(
        text.as_str().unwrap().lines().collect::<Vec<_>>(),
        ["POST", "/form?a=1&page=2", "application/x-www-form-urlencoded", "Bearer token", "name=Ada+%26+Co&x=%C3%A4"]
    );
}

#[test]
fn json_that_does_not_fit_is_named_by_its_path() {
    let site = Site::start(|asked| match asked.target.as_str() {
        "/good" => Told::new(200, r#"{"ada": [1, 2]}"#),
        _ => Told::new(200, r#"{"ada": [1, "two"]}"#),
    });
    let get = |path: &str| run(&site, "get_scores", &json!({ "url": site.url(path) }));
    assert_eq!(get("/good").json(), json!({ "ada": [1, 2] }));
    let output = get("/bad");
    assert!(output.stderr.contains("$.ada[1]: expected an integer (`u8`), found \"two\""), "{output:#?}");
}
