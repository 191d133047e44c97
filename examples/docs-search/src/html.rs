//! The search page: one document without any asset, script or font from elsewhere.

use std::fmt::Write;

use bireme_sdk::web::escape;

use crate::hit::Hit;

/// Words of a query that are shorter are not marked in the excerpts.
const MARKED_LEN_MIN: usize = 3;

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fbfaf8;--card:#fff;--text:#1d1f21;--soft:#63686e;--line:#e2dfd8;--accent:#a4441f;--mark:#ffe9a8}
@media(prefers-color-scheme:dark){:root{--ground:#15171a;--card:#1d2024;--text:#e8e6e3;--soft:#9aa0a6;--line:#30343a;--accent:#ff9b6a;--mark:#5c4a12}}
*{box-sizing:border-box}
html{scrollbar-gutter:stable}
body{margin:0;background:var(--ground);color:var(--text);font:16px/1.55 system-ui,sans-serif}
main,header{max-width:46rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:clamp(1.5rem,6vh,4rem)}
h1{font-size:1.35rem;font-weight:650;letter-spacing:-.01em;margin:0 0 .9rem}
h1 a{color:inherit;text-decoration:none}
form{display:flex;gap:.5rem}
input,button{font:inherit;border-radius:.65rem;border:1px solid var(--line);padding:.7rem .95rem}
input{flex:1;min-width:0;background:var(--card);color:inherit}
button{background:var(--accent);border-color:var(--accent);color:var(--ground);font-weight:600;cursor:pointer}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
p.note{color:var(--soft);font-size:.9rem;margin:.9rem 0 1.4rem}
ol{list-style:none;margin:0;padding:0 0 4rem;display:grid;gap:.8rem}
li{background:var(--card);border:1px solid var(--line);border-radius:.8rem;padding:1rem 1.15rem}
h2{font-size:1.05rem;line-height:1.35;margin:0}
h2 a{color:var(--accent);text-decoration:none}
h2 a:hover{text-decoration:underline}
.where{color:var(--soft);font-size:.82rem;overflow-wrap:anywhere;display:flex;gap:.75rem;justify-content:space-between}
.score{white-space:nowrap}
.questions{padding-bottom:0;font-size:.95rem}
.questions a{color:var(--accent)}
.excerpt{margin:.5rem 0 0;overflow-wrap:anywhere}
mark{background:var(--mark);color:inherit;border-radius:.2rem;padding:0 .1em}";

/// Writes the first page: the box, and links that ask `questions`.
pub fn first_page(note: &str, questions: &[String]) -> String {
    let mut main = String::new();
    if !questions.is_empty() {
        main.push_str("<ol class=questions>");
        for question in questions {
            let query: String = form_urlencoded::byte_serialize(question.as_bytes()).collect();
            // Writing to a string does not fail.
            let _ = write!(main, "<li><a href=\"./?q={query}\">{}</a></li>", escape(question));
        }
        main.push_str("</ol>");
    }
    document("", note, &main)
}

/// Writes the page of a query's hits; `note` stands below the box.
pub fn page(q: &str, note: &str, hits: &[Hit]) -> String {
    let words = words(q);
    let mut main = String::from("<ol>");
    for hit in hits {
        let heading = if hit.heading.is_empty() { hit.title.clone() } else { hit.heading.join(" › ") };
        // Writing to a string does not fail.
        let _ = write!(
            main,
            "<li><h2><a href=\"{}\">{}</a></h2><div class=where><span>{}</span><span class=score>{:.2}</span></div><p class=excerpt>{}</p>",
            escape(&hit.url),
            escape(&heading),
            escape(&hit.url),
            hit.score,
            marked(&hit.excerpt, &words)
        );
    }
    main.push_str("</ol>");
    document(q, note, &main)
}

fn document(q: &str, note: &str, main: &str) -> String {
    let (value, title) = (escape(q), if q.is_empty() { "Search".into() } else { escape(q) });
    let autofocus = if q.is_empty() { " autofocus" } else { "" };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title} · docs-search</title><style>{STYLE}</style>\
         <header><h1><a href=\"./\">docs-search</a></h1>\
         <form role=search action=\"./\"><input type=search name=q value=\"{value}\" aria-label=\"Search the documentation\" \
         placeholder=\"Ask in your own words\"{autofocus}><button>Search</button></form>\
         <p class=note role=status>{}</p></header><main>{main}</main></html>",
        escape(note)
    )
}

/// Returns a count as people read it: `6,309`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn words(q: &str) -> Vec<String> {
    let words = q.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    words.filter(|word| word.chars().count() >= MARKED_LEN_MIN).collect()
}

/// Returns the excerpt as HTML, with the query's words marked.
fn marked(excerpt: &str, words: &[String]) -> String {
    let mut html = String::with_capacity(excerpt.len() + 64);
    for piece in excerpt.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let (word, rest) = (escape(word), escape(&piece[word.len()..]));
        if words.contains(&word.to_lowercase()) {
            let _ = write!(html, "<mark>{word}</mark>{rest}");
        } else {
            html.push_str(&word);
            html.push_str(&rest);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_the_query_are_marked_and_everything_is_escaped() {
        let words = words("the <Heap>, a stack");
        assert_eq!(
            marked("A <heap> is the stack's", &words),
            "A &lt;<mark>heap</mark>&gt; is <mark>the</mark> <mark>stack</mark>&#39;s"
        );
        let page = page("\"><script>", "a & b", &[]);
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\"") && page.contains("a &amp; b"), "{page}");
    }
    #[test]
    fn the_first_page_asks_its_questions_by_links() {
        let page = first_page("", &["what is <T> & why?".to_owned()]);
        assert!(
            page.contains("<a href=\"./?q=what+is+%3CT%3E+%26+why%3F\">what is &lt;T&gt; &amp; why?</a>"),
            "{page}"
        );
        assert!(!first_page("", &[]).contains("<ol"));
    }

    #[test]
    fn counts_have_separators() {
        assert_eq!([0, 999, 6_309, 1_000_000].map(count), ["0", "999", "6,309", "1,000,000"]);
    }
}
