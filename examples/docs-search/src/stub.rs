//! Stubs: documents that answer like a page but have nothing of their own to read.

use bireme_sdk::http::Url;
use bireme_sdk::prelude::*;
use scraper::{ElementRef, Html};

/// First words of a page that may say that it was superseded.
const NOTICE_WORDS_MAX: usize = 60;

/// Texts, in lower case, of a page that only points at a newer one.
const NOTICES: [&str; 4] =
    ["there is a new edition", "this is an old link", "is no longer distributed with", "this page has moved"];

/// Reason why a document is no page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// It sends the reader elsewhere.
    Redirect { to: String },
    /// It only says that another edition took its place.
    Superseded,
    /// It is all the other pages on one, for a printer.
    PrintView,
    /// It is a table of contents that other pages show in a frame.
    Contents,
    /// It says that there is no such page.
    NotFound,
    /// It is no HTML.
    NotHtml { content_type: String },
    /// It has no text outside of its navigation.
    Empty,
}

impl Reason {
    /// The reason as it stands in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Redirect { .. } => "redirect",
            Self::Superseded => "superseded",
            Self::PrintView => "print-view",
            Self::Contents => "contents",
            Self::NotFound => "not-found",
            Self::NotHtml { .. } => "not-html",
            Self::Empty => "empty",
        }
    }
}

/// Tells a stub by its head, its URL and its title.
pub fn by_head(url: &Url, document: &Html, title: &str) -> Option<Reason> {
    if let Some(to) = elements(document).find_map(|element| refresh(url, element)) {
        return Some(Reason::Redirect { to });
    }
    let file = url.path().rsplit('/').next().unwrap_or_default();
    let is_contents_frame = || {
        elements(document)
            .any(|element| element.value().has_class("sidebar-iframe-inner", scraper::CaseSensitivity::CaseSensitive))
    };
    match file {
        "print.html" => Some(Reason::PrintView),
        "404.html" => Some(Reason::NotFound),
        "toc.html" if is_contents_frame() => Some(Reason::Contents),
        _ if title.starts_with("Page not found") || title.starts_with("Document not found") => Some(Reason::NotFound),
        _ => None,
    }
}

/// Tells a stub by what it says first.
pub fn by_text<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Reason> {
    let words: Vec<&str> = texts.flat_map(str::split_whitespace).take(NOTICE_WORDS_MAX).collect();
    if words.is_empty() {
        return Some(Reason::Empty);
    }
    let beginning = words.join(" ").to_lowercase();
    NOTICES.iter().any(|notice| beginning.contains(notice)).then_some(Reason::Superseded)
}

fn elements(document: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    document.tree.nodes().filter_map(ElementRef::wrap)
}

/// `<meta http-equiv="refresh" content="0; url=…">`.
fn refresh(url: &Url, element: ElementRef<'_>) -> Option<String> {
    let element = element.value();
    if element.name() != "meta" || !element.attr("http-equiv")?.eq_ignore_ascii_case("refresh") {
        return None;
    }
    let (_, target) = element.attr("content")?.split_once(';')?;
    let (key, target) = target.split_once('=')?;
    if !key.trim().eq_ignore_ascii_case("url") {
        return None;
    }
    let target = target.trim().trim_matches(['"', '\'']);
    Some(url.join(target).map_or_else(|_| target.to_owned(), |to| to.to_string()))
}
