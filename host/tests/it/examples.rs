//! The examples on real input: a file of airports that a Python package carries, feeds of real sites that a crate
//! carries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::python::files_of;
use crate::site::{Site, Told};
use crate::support::{Guest, command, crate_dir, finish, finish_with, fresh_data, function};

/// The file of airports: 3,376 of the United States and its territories, from `vega_datasets` (BSD; its data: public
/// domain). None, and said so, where it cannot be had.
fn airports() -> Option<PathBuf> {
    Some(files_of("vega_datasets==0.9.0")?.join("vega_datasets/_data/airports.csv"))
}

/// The recorded feeds in the package of `feed-rs`, by file name.
fn feeds() -> Vec<(String, Vec<u8>)> {
    let metadata = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(crate_dir("../examples/Cargo.toml"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "feed-rs").unwrap();
    let dir = PathBuf::from(package["manifest_path"].as_str().unwrap()).with_file_name("fixture");
    let mut feeds = Vec::new();
    for entry in ["rss2", "atom"].iter().flat_map(|kind| fs::read_dir(dir.join(kind)).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            feeds.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()));
        }
    }
    feeds.sort();
    feeds
}

#[test]
fn a_file_of_airports_is_cleaned_and_summed_up() {
    let Some(file) = airports() else { return };
    let text = fs::read_to_string(&file).unwrap();
    let rows = text.lines().skip(1).filter(|line| !line.is_empty()).count() as u64;
    let data = fresh_data();
    let etl = function(Guest::CsvEtl, "etl");
    let output = finish(command(data.path(), &["run", &etl, &format!("@{}", file.display())]));
    assert_eq!(output.status, 0, "{output:#?}");
    let report = output.json();
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(count("airports") + count("rejected_count"), rows, "each line is one or the other");
    assert_eq!(report["failed"], json!({}));
    assert!(count("airports") > 3_000 && count("rejected_count") > 0, "{report}");
    for rejected in report["rejected"].as_array().unwrap() {
        let line = text.lines().nth(rejected["line"].as_u64().unwrap() as usize - 1).unwrap();
        assert!(line.contains("NA"), "line {rejected}: {line}");
    }
    assert_eq!(report["states"]["AK"]["northernmost"], "Wiley Post Will Rogers Memorial");

    // A line of rubbish, an empty file and another one.
    let bad = data.path().join("bad.csv");
    fs::write(&bad, format!("{text}rubbish\n")).unwrap();
    let report = finish(command(data.path(), &["run", &etl, &format!("@{}", bad.display())])).json();
    let last = report["rejected"].as_array().unwrap().last().unwrap();
    assert_eq!(last, &json!({ "line": rows + 2, "problem": { "kind": "columns", "found": 1 } }));
    fs::write(&bad, "a,b\n").unwrap();
    let refused = finish(command(data.path(), &["run", &etl, &format!("@{}", bad.display())]));
    assert!(refused.status == 1 && refused.stderr.contains("the head is `a,b`"), "{refused:#?}");
}

#[test]
fn recorded_feeds_are_news_once() {
    let feeds = feeds();
    assert!(feeds.len() > 40, "{}", feeds.len());
    let site = Site::start({
        let feeds = feeds.clone();
        move |asked| match feeds.iter().find(|(name, _)| asked.target[1..] == **name) {
            Some((_, feed)) => Told::new(200, feed.clone()).with("content-type", "application/xml"),
            None => Told::new(404, ""),
        }
    });
    let urls: Vec<String> = feeds.iter().map(|(name, _)| format!("{}/{name}", site.origin)).collect();
    let grant = format!("feeds={}", site.origin);
    let data = fresh_data();
    let news = |urls: &[String]| {
        let (news, input) = (function(Guest::FeedScraper, "news"), json!({ "urls": urls }).to_string());
        let output = finish(command(data.path(), &["run", "--grant", &grant, &news, &input]));
        assert_eq!(output.status, 0, "{output:#?}");
        output.json()
    };
    let first = news(&urls);
    let fresh = first["fresh"].as_array().unwrap();
    assert!(fresh.len() > 50, "{}", fresh.len());
    assert!(fresh.iter().all(|item| !item["id"].as_str().unwrap().is_empty()));
    let failed: Vec<&str> =
        first["failed"].as_array().unwrap().iter().map(|failed| failed["url"].as_str().unwrap()).collect();
    assert!(failed.iter().any(|url| url.ends_with("rss_2.0_invalid_1.xml")) && failed.len() < 5, "{failed:?}");
    let second = news(&urls);
    assert_eq!((&second["fresh"], &second["failed"]), (&json!([]), &first["failed"]));

    // The same through `map`: one line for each feed, those that are none told by index.
    let lines: String = urls.iter().map(|url| format!("{}\n", json!(url))).collect();
    let fetch = function(Guest::FeedScraper, "fetch");
    let args = ["map", "--grant", &grant, "--keep-going", &fetch, "--inputs", "-"];
    let mapped = finish_with(command(data.path(), &args), &lines);
    let items: usize = mapped
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["items"].as_array().or_else(|| line["result"]["items"].as_array()).map_or(0, Vec::len))
        .sum();
    assert!(items >= fresh.len(), "{items} {}: {}", fresh.len(), mapped.stderr);
}
