//! The demo and its search page, on a folder of three pages.

use std::fs;
use std::path::Path;

use crate::support::{Guest, MODEL, Server, command, data_with_model, finish, fresh_data, kept, real_model};

const QUESTION: &str = "What moves a boat & why?";

fn write_pages(dir: &Path) {
    let pages = [
        ("oars", "Long poles of wood that move a boat through the water."),
        ("taxes", "Every year the form must reach the office by May."),
        ("bread", "Flour, water, salt and yeast, baked for an hour."),
    ];
    for (name, text) in pages {
        let html =
            format!("<html><head><title>{name}</title></head><body><main><h1>{name}</h1><p>{text}</main></html>");
        fs::write(dir.join(format!("{name}.html")), html).unwrap();
    }
}

#[test]
fn the_demo_finds_the_page_that_answers() {
    let Some(model) = real_model(MODEL) else { return };
    let (data, docs) = (data_with_model(MODEL, &model), tempfile::tempdir().unwrap());
    write_pages(docs.path());
    let docs = docs.path().to_str().unwrap();
    let mut demo = command(data.path(), &["--json", "demo", "--once", "--docs", docs, "--listen", "127.0.0.1:0"]);
    demo.args(["--question", QUESTION]).env("BIREME_GUEST_TARGET_DIR", kept().join("guests"));
    let output = finish(demo);
    assert_eq!(output.status, 0, "{output:#?}");
    let hit = &output.json()["answers"][0]["hits"][0];
    assert_eq!(hit["title"], "oars");
    // The folder has no public address.
    assert!(hit["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{hit}");
}

#[test]
fn the_first_page_of_the_search_asks_questions_by_links() {
    let data = fresh_data();
    let questions = format!("docs-search:questions={}", serde_json::json!([QUESTION]));
    let mut server = Server::try_start(data.path(), &[Guest::DocsSearch], &["--config", &questions]).unwrap();
    let vectors = server.post("/docs-search/embed", r#"{"texts": ["They move a boat."]}"#).json();
    let passage = serde_json::json!({ "heading": ["oars"], "anchor": "", "text": "They move a boat." });
    let located = serde_json::json!({ "url": "https://example.com/oars", "title": "oars", "passage": passage });
    let segment = serde_json::json!({ "generation": "1", "number": 0, "passages": [located], "vectors": vectors });
    let manifest = serde_json::json!({ "generation": "1", "segments": 1, "passages": 6_309, "model": MODEL });
    for (function, body) in [("store", format!("{{\"segment\":{segment}}}")), ("commit", manifest.to_string())] {
        let reply = server.post(&format!("/docs-search/{function}"), &body);
        assert_eq!(reply.status, 200, "{function}: {}", reply.body);
    }
    let page = server.get("/docs-search/").body;
    assert!(page.contains("6,309 passages"), "{page}");
    let link = "<a href=\"./?q=What+moves+a+boat+%26+why%3F\">What moves a boat &amp; why?</a>";
    assert!(page.contains(link), "{page}");
    let page = server.get("/docs-search/?q=What+moves+a+boat+%26+why%3F").body;
    assert!(page.contains("<a href=\"https://example.com/oars\">oars</a>"), "{page}");
    assert_eq!(server.stop(), 0);
}
