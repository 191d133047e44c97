//! The app as a whole, on a small site in memory.

use bireme_sdk::http::{Response, Url};
use bireme_sdk::{kv, testing};

use super::*;

const BOOK: &str = r##"<!DOCTYPE html><html><head><title>Ownership - The Book</title></head><body>
<nav class="sidebar"><a href="index.html">Contents</a></nav>
<main>
<h1 id="ownership"><a class="header" href="#ownership">Ownership</a></h1>
<p>Ownership is what makes   Rust <em>unique</em>.</p>
<h2 id="the-stack-and-the-heap"><a class="header" href="#x">The Stack and the Heap</a></h2>
<p>The heap is less organised.</p>
<div class="buttons"><button>Copy</button></div>
<pre><code class="language-rust">fn main() {
    let s = <span class="kw">String</span>::new();
}
</code></pre>
<ul><li>See <a href="ch01.html#a">one</a></li><li><a href="../std/index.html">std</a>, <a href="https://elsewhere.example/">elsewhere</a>, <a href="ch01.html#b">one again</a></li></ul>
</main><script>var not = "text";</script></body></html>"##;

fn url(text: &str) -> Url {
    text.parse().expect("the test's URL is one")
}

fn parse(address: &str, html: &str) -> Result<Page, Reason> {
    page::parse(&url(address), html)
}

#[test]
fn a_page_gives_title_links_and_passages() {
    let page = parse("http://site/book/ch04.html", BOOK).expect("it is a page");
    assert_eq!(page.title, "Ownership - The Book");
    assert_eq!(page.links, ["http://site/book/index.html", "http://site/book/ch01.html", "http://site/std/index.html"]);
    let passages: Vec<_> = page
        .passages
        .iter()
        .map(|passage| (passage.heading.join(" > "), passage.anchor.as_str(), passage.text.as_str()))
        .collect();
    assert_eq!(
        passages,
        [
            ("Ownership".to_owned(), "ownership", "Ownership is what makes Rust unique."),
            (
                "Ownership > The Stack and the Heap".to_owned(),
                "the-stack-and-the-heap",
                "The heap is less organised.\nfn main() {\n    let s = String::new();\n}\nSee one\nstd, elsewhere, one again"
            ),
        ]
    );
}

#[test]
fn rustdoc_is_read_without_its_toolbar_and_a_method_has_its_sections_anchor() {
    let html = r##"<html><head><title>Vec in std::vec - Rust</title></head><body><nav class="sidebar">Methods</nav><main><section id="main-content" class="content">
<div class="main-heading"><h1>Struct <span class="struct">Vec</span></h1><rustdoc-toolbar></rustdoc-toolbar><span class="out-of-band"><a class="src" href="x">Source</a></span></div>
<details><summary><section id="method.new" class="method"><a class="src" href="y">Source</a><h4 class="code-header">pub const fn <a class="fn">new</a>() -&gt; Vec</h4></section></summary>
<div class="docblock"><p>Constructs a new, empty vector.</p></div></details></section></main></body></html>"##;
    let page = parse("http://site/std/vec/struct.Vec.html", html).expect("it is a page");
    assert_eq!(page.passages.len(), 1);
    assert_eq!(page.passages[0].heading, ["Struct Vec", "pub const fn new() -> Vec"]);
    assert_eq!(page.passages[0].anchor, "method.new");
    assert_eq!(page.passages[0].text, "Constructs a new, empty vector.");
}

#[test]
fn what_is_no_page_says_why() {
    let body = |text: &str| format!("<html><head><title>T</title></head><body><main>{text}</main></body></html>");
    let long = vec!["word"; 100].join(" ");
    for (address, html, reason) in [
        (
            "http://site/a.html",
            r#"<meta http-equiv="Refresh" content="0; URL='b.html'">"#.to_owned(),
            Reason::Redirect { to: "http://site/b.html".to_owned() },
        ),
        (
            "http://site/a.html",
            body("<small>There is a new edition of the book and this is an old link.</small>"),
            Reason::Superseded,
        ),
        (
            "http://site/a.html",
            body("<h1>X</h1><p>The first edition of the book is no longer distributed with Rust’s documentation."),
            Reason::Superseded,
        ),
        ("http://site/print.html", body(&long), Reason::PrintView),
        ("http://site/404.html", body(&long), Reason::NotFound),
        ("http://site/toc.html", r#"<body class="sidebar-iframe-inner"><ol><li>One</ol>"#.to_owned(), Reason::Contents),
        ("http://site/a.html", body("<nav>only navigation</nav>"), Reason::Empty),
        ("http://site/a.html", String::new(), Reason::Empty),
    ] {
        assert_eq!(parse(address, &html), Err(reason), "{html}");
    }
    assert!(parse("http://site/a.html", &body(&format!("<p>{long}<p>is no longer distributed with it"))).is_ok());
}

#[test]
fn deep_nesting_costs_no_stack() {
    let html = format!("<main>{}deep{}</main>", "<div>".repeat(3_000), "</div>".repeat(3_000));
    let page = parse("http://site/deep.html", &html).expect("it is a page");
    assert_eq!(page.passages[0].text, "deep");
}

#[test]
fn scrape_follows_a_redirect_and_skips_what_is_no_html() {
    let _http = testing::with_http(|request| {
        Ok(match request.url() {
            "http://site/old" => Response::new(301, "").with_header("location", "/book/ch04.html"),
            "http://site/book/ch04.html" => {
                Response::new(200, BOOK).with_header("content-type", "text/html; charset=utf-8")
            }
            "http://site/logo.svg" => Response::new(200, "<svg/>").with_header("content-type", "image/svg+xml"),
            _ => Response::new(404, ""),
        })
    });
    assert!(
        matches!(scrape::call("http://site/old".to_owned()), Ok(Scraped::Page(page)) if page.url == "http://site/book/ch04.html")
    );
    let skipped = scrape("http://site/logo.svg".to_owned());
    assert!(matches!(skipped, Ok(Scraped::Skipped { reason: Reason::NotHtml { .. }, .. })));
    let failure = scrape("http://site/none".to_owned()).expect_err("it does not exist");
    assert!(failure.is_terminal(), "{failure}");
}

/// A model that knows four words.
fn with_model() -> testing::Guard {
    testing::with_model(MODEL, 4, |text| {
        let text = text.to_lowercase();
        let mut vector: Vec<f32> = ["ownership", "heap", "closure", "thread"]
            .iter()
            .map(|word| text.matches(word).count() as f32 + 0.01)
            .collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
        vector
    })
}

#[test]
fn an_index_is_built_committed_searched_and_replaced() {
    let _model = with_model();
    let _kv = testing::with_kv();
    let _http = testing::with_http(|request| {
        let topic = request.url().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(match topic.as_str() {
            "gone" => Response::new(404, ""),
            "print.html" => Response::new(200, BOOK),
            topic => Response::new(
                200,
                format!(
                    "<title>{topic}</title><main><h1 id=top>About {topic}</h1>{}</main>",
                    "<h2 id=part>Part</h2><p>text".repeat(300)
                ),
            ),
        })
    });
    let nothing = search("heap".to_owned(), None).expect_err("nothing is indexed");
    assert!(nothing.message.contains("call `index` first"), "{nothing}");
    let empty = testing::web("GET", "/").send();
    assert_eq!(empty.status, 503);
    assert!(empty.text().expect("a page").contains("Nothing is indexed yet"));

    let urls = |topics: &[&str]| topics.iter().map(|topic| format!("http://site/{topic}")).collect::<Vec<_>>();
    let summary =
        index::call(urls(&["closure", "gone", "heap", "print.html", "thread"])).expect("three pages are indexed");
    assert_eq!((summary.pages, summary.passages, summary.segments), (3, 900, 2));
    assert_eq!(summary.skipped, [("print-view".to_owned(), 1)].into());
    assert!(summary.failed["http://site/gone"].contains("status 404"));

    let hits = search::call("the heap".to_owned(), Some(3)).expect("the index is searched");
    assert_eq!(hits.len(), 3);
    assert_eq!((hits[0].url.as_str(), hits[0].title.as_str()), ("http://site/heap#part", "heap"));
    assert_eq!(hits[0].heading, ["About heap", "Part"]);
    assert!(hits[0].score > 0.99, "{}", hits[0].score);
    assert!(search("heap".to_owned(), Some(0)).is_err() && search(" ".to_owned(), None).is_err());

    let page = |path: &str| testing::web("GET", path).send().text().expect("a page");
    assert!(page("/").contains("900 passages") && page("/").contains("autofocus"), "{}", page("/"));
    let found = page("/?q=the+%3Cheap%3E");
    assert!(found.contains("<a href=\"http://site/heap#part\">About heap › Part</a>"), "{found}");
    assert!(found.contains("value=\"the &lt;heap&gt;\"") && found.contains("10 of 900 passages"), "{found}");
    let json = testing::web("GET", "/search?q=heap&limit=3").send();
    assert_eq!(json.json::<Vec<Hit>>().expect("hits").len(), 3);
    for (path, words) in [
        ("/search?q=heap&limit=0", "goes from 1 to 100, not 0"),
        ("/search?limit=3", "parameter `q` of the query: it is missing"),
        ("/search?q=heap&limit=ten", "found `ten`"),
    ] {
        let refused = testing::web("GET", path).send();
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.text().expect("a problem").contains(words), "{path}");
    }
}

#[test]
fn a_half_written_index_is_never_searched_and_goes_with_the_next_commit() {
    let _kv = testing::with_kv();
    let _model = with_model();
    let segment = |generation: &str, title: &str| Segment {
        generation: generation.to_owned(),
        number: 0,
        passages: vec![Located {
            url: "u".to_owned(),
            title: title.to_owned(),
            passage: Passage { heading: vec![], anchor: String::new(), text: "heap".to_owned() },
        }],
        vectors: vec![vec![0.0, 1.0, 0.0, 0.0].into()],
    };
    let manifest = |generation: &str, segments| Manifest {
        generation: generation.to_owned(),
        segments,
        passages: 1,
        model: MODEL.to_owned(),
    };
    let title = || search("heap".to_owned(), None).map(|hits| hits[0].title.clone());

    store(segment("1", "first")).expect("it is stored");
    commit(manifest("1", 1)).expect("it is whole");
    store(segment("2", "half")).expect("it is stored");
    assert_eq!(title(), Ok("first".to_owned()));
    assert!(commit(manifest("2", 2)).expect_err("it is not whole").message.contains("segment 1 of 2"));
    assert_eq!(title(), Ok("first".to_owned()));

    store(segment("3", "third")).expect("it is stored");
    commit(manifest("3", 1)).expect("it is whole");
    assert_eq!(title(), Ok("third".to_owned()));
    assert!(commit(manifest("1", 0)).expect_err("a later one was committed").is_terminal());
    let keys: Vec<String> = kv::open("docs").and_then(|bucket| bucket.keys().collect()).expect("the keys are listed");
    assert_eq!(keys, ["3/passages/0/0", "3/vectors/0", "manifest"]);
}
